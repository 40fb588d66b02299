"""Time the parts of a model on this machine: blocks, readout, a translator, and state completion.

Protocol: random tokens fill the cache; then chunks of new tokens are decoded, each on a fresh copy of that cache.
Rounds are interleaved, so that drift of the machine meets all parts alike: in each, every chunk size is decoded once
with a clock at each block (the device synchronised before each reading), and once without, which shows what the clocks
cost. The readout is what the model's own code does after the last block. First rounds warm up and are not kept.

State completion is timed as one product per block with as many numbers as its state was counted to depend on: what has
to be read, without norms, rotations and the writing. The real one is timed where it runs, by `decode.times`.

Design choices: copies of the cache lie outside the clock; medians with quantiles, never means; the sum of the parts is
held against whole steps (`MeasuredProfile.accounted`).

Non-goals: rows of several sequences, and energy.
"""

import copy
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from exitbench.decode.timing import synchronise
from exitbench.env import environment_report, library_versions
from exitbench.errors import CostError
from exitbench.models.load import LoadedModel
from exitbench.models.strict import one_line
from exitbench.progress import SILENT, Progressor
from exitbench.replay.profiles import MeasuredProfile, TimedPart

__all__ = ["ProfileOptions", "measure_profile"]

_CACHES = ("past_key_values", "cache_params", "state")
"""Names under which models return what they keep for the next token, and take it."""
_WARM_UP = 2
_STEP, _READOUT, _TRANSLATOR = "whole step", "readout", "translator"


@dataclass(frozen=True, kw_only=True)
class ProfileOptions:
    """What is timed, and how often."""

    context: int = 512
    """Positions in the cache when one token is decoded, that token included."""
    batches: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of tokens in a chunk, rising from 1."""
    repeats: int = 20
    """Rounds that are kept."""

    def __post_init__(self) -> None:
        if self.context < 2:
            raise CostError(f"--context is {self.context}, expected at least 2: a token, and one before it")
        if self.repeats < 1:
            raise CostError(f"--repeats is {self.repeats}, expected at least 1")
        if not self.batches or self.batches[0] != 1 or list(self.batches) != sorted(set(self.batches)):
            given = ",".join(map(str, self.batches))
            raise CostError(f"--batches is {given!r}, expected rising numbers from 1, e.g. 1,2,4,8")


def measure_profile(
    loaded: LoadedModel, *, options: ProfileOptions, command: str = "", progress: Progressor = SILENT
) -> MeasuredProfile:
    """Time a model's parts.

    Args:
        loaded: a validated model.
        options: what is timed.
        command: recorded as what measured it.
        progress: where to show bars.

    Raises:
        CostError: a context that the model has no positions for, no cache, or chunks that it cannot decode.
    """
    longest = options.context - 1 + options.batches[-1]
    if not loaded.has_room_for(longest):
        raise CostError(
            f"--context {options.context} with chunks of {options.batches[-1]} needs {longest} positions, "
            f"{loaded.source.name} knows {loaded.context_length}; give a smaller --context"
        )
    with torch.inference_mode(), progress.bar(f"Timing {loaded.source.name}", _WARM_UP + options.repeats) as advance:
        stopwatch = _Stopwatch(loaded, options)
        for number in range(_WARM_UP + options.repeats):
            if number == _WARM_UP:
                stopwatch.times.clear()
            stopwatch.round()
            advance(1)
    environment, device = environment_report(), loaded.model.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else environment["processor"]
    dtype = str(loaded.model.dtype).removeprefix("torch.")
    part, batches = stopwatch.part, options.batches
    has_completion = all(block.completion_weight_bytes is not None for block in loaded.shape.blocks)
    return MeasuredProfile(
        name=f"{loaded.source.name} in {dtype} on {name}",
        source=f"{command or 'exitbench.api.profile'}, {datetime.now(UTC).isoformat(timespec='seconds')}",
        model=loaded.source.name,
        weights_sha256=loaded.source.weights_sha256,
        dtype=dtype,
        device=name,
        attention=loaded.model.config._attn_implementation,
        context=options.context,
        num_repeats=options.repeats,
        blocks=tuple(part(index, batches) for index in range(loaded.shape.num_blocks)),
        steps=part(_STEP, batches),
        readout=part(_READOUT, batches),
        translator=part(_TRANSLATOR, batches),
        completion=tuple(part(("completion", i), (1,)) for i in range(loaded.shape.num_blocks))
        if has_completion
        else None,
        libraries=library_versions(),
        environment=environment,
    )


class _Stopwatch:
    """Runs rounds and keeps what they took.

    Args:
        loaded: the model.
        options: what is timed.
    """

    def __init__(self, loaded: LoadedModel, options: ProfileOptions) -> None:
        self._adapter, self._options = loaded.adapter, options
        self._devices = {parameter.device for parameter in loaded.model.parameters()}
        self.times: defaultdict[tuple[Any, int], list[float]] = defaultdict(list)
        """(part, rows) -> seconds, one a round."""
        generator = torch.Generator().manual_seed(0)
        length = options.context - 1 + options.batches[-1]
        ids = torch.randint(loaded.shape.vocab_size, (1, length), generator=generator).to(loaded.model.device)
        self._new_ids = ids[:, options.context - 1 :]
        filled = self._adapter.model(input_ids=ids[:, : options.context - 1], use_cache=True)
        cache = next((name for name in _CACHES if getattr(filled, name, None) is not None), None)
        if cache is None:
            raise CostError(
                f"{loaded.source.name} returns no state to decode a token from (tried {', '.join(_CACHES)}), so its "
                "decoding cannot be timed; use a roofline profile"
            )
        self._cache_name, self._cache = cache, getattr(filled, cache)
        width, dtype, device = loaded.shape.hidden_size, loaded.model.dtype, loaded.model.device
        self._hidden = torch.ones(options.batches[-1], width, dtype=dtype, device=device)
        # Filled, for memory that nobody has written to may not be there yet.
        self._translator = torch.full((width, width), 0.5, dtype=dtype, device=device)
        self._completions = [
            torch.full((round((block.completion_weight_bytes or 0) / dtype.itemsize / width), width), 0.5).to(
                self._hidden
            )
            for block in loaded.shape.blocks
        ]

    def round(self) -> None:
        """Every part once."""
        for num_tokens in self._options.batches:
            try:
                self._watched_step(num_tokens)
                self._step(num_tokens)
            except RuntimeError as error:  # recurrent models that cannot go on from a state by several tokens
                raise CostError(
                    f"the model cannot decode {num_tokens} tokens at once: {one_line(error)}; give fewer in --batches"
                ) from error
            self._product(_TRANSLATOR, self._translator, num_tokens)
        for index, weights in enumerate(self._completions):
            self._product(("completion", index), weights, 1)

    def part(self, name: Any, rows: Sequence[int]) -> TimedPart:
        """What was kept of one part."""
        q10, median, q90 = (
            tuple(float(np.quantile(self.times[name, n], share)) for n in rows) for share in (0.1, 0.5, 0.9)
        )
        return TimedPart(rows=tuple(rows), median_s=median, q10_s=q10, q90_s=q90)

    def _now(self) -> float:
        for device in self._devices:
            synchronise(device)
        return time.perf_counter()

    def _decode(self, num_tokens: int) -> tuple[float, float]:
        """When decoding a chunk began and ended."""
        cache = copy.deepcopy(self._cache)
        ids = self._new_ids[:, :num_tokens]
        start = self._now()
        self._adapter.model(input_ids=ids, use_cache=True, **{self._cache_name: cache})
        return start, self._now()

    def _step(self, num_tokens: int) -> None:
        start, end = self._decode(num_tokens)
        self.times[_STEP, num_tokens].append(end - start)

    def _watched_step(self, num_tokens: int) -> None:
        stamps: list[float] = []

        def entering(index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            stamps.append(self._now())

        def leaving(index: int, output: Any) -> None:
            stamps.append(self._now())

        with self._adapter.watched(entering, leaving):
            _, end = self._decode(num_tokens)
        for index, (entered, left) in enumerate(zip(stamps[::2], stamps[1::2], strict=True)):
            self.times[index, num_tokens].append(left - entered)
        self.times[_READOUT, num_tokens].append(end - stamps[-1])

    def _product(self, name: Any, weights: torch.Tensor, rows: int) -> None:
        start = self._now()
        torch.nn.functional.linear(self._hidden[:rows], weights)
        self.times[name, rows].append(self._now() - start)
