"""Time the parts of the exit loop where they run: blocks, state, probes, arguments, and what lies between.

The real loop decodes random tokens that leave where a script says; clocks stand around its parts, each of which is
charged with what no part inside it takes, and the device is waited for before every reading. Scripts bring about every
number of rows and of waiting tokens that is asked for. Rounds repeat all of it, so that a caller can put other work
between them and drift meets both alike. A part's time is the median over rounds of its mean in each: times are there to
be added up, and of parts that now and then take longer only the means add up to the mean of the whole.

Three kinds of probe are timed: "readout" (probability of the top token), "hidden" (cosine to the block before) and
"static" (a policy that looks at no token). Other signals of the same kind are taken for as dear: reading out is what
costs.

Non-goals: prompts; probes that read out two depths, for which no time is given.

Shapes: B rows, L blocks.
"""

import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from exitbench.decode.abilities import Abilities
from exitbench.decode.batch import Batch, Train
from exitbench.decode.cache import RowStates
from exitbench.decode.lossless import LosslessRun
from exitbench.decode.probe import Looks, Prober, Reader
from exitbench.decode.run import Run
from exitbench.decode.stack import Calls, Stack, Tokens
from exitbench.decode.timing import synchronise
from exitbench.decode.trial import find_abilities
from exitbench.errors import CostError
from exitbench.models.adapter import forward_replaced
from exitbench.models.load import ProvedModel
from exitbench.policies.agreement import HiddenSaturation
from exitbench.policies.confidence import TopProbability
from exitbench.policies.policy import ExitPolicy
from exitbench.policies.schedule import Schedule
from exitbench.policies.static import FixedDepth
from exitbench.replay.profiles import TimedPart
from exitbench.replay.project import DecoderTimes, TimedGrid
from exitbench.signals.registry import SIGNALS

__all__ = ["LoopTimer", "probe_kind"]

_FIRST = 1
"""Depth at which scripted tokens leave: behind it, every block sees every chunk."""
_KINDS: dict[str, ExitPolicy] = {
    "readout": TopProbability(threshold=1.0),
    "hidden": HiddenSaturation(threshold=0.0),
    "static": FixedDepth(threshold=_FIRST),
}
_ROOM = 4096


def probe_kind(policy: ExitPolicy) -> str:
    """Under which kind the probes of a policy are timed.

    Raises:
        CostError: it reads out two depths a probe.
    """
    signals = [SIGNALS.get(name) for name in policy.signals]
    if any(signal.needs_previous for signal in signals):
        raise CostError(f"policy {policy.name!r} reads out two depths at every probe, which is not timed")
    return "static" if not signals else "readout" if any(signal.needs_readout for signal in signals) else "hidden"


class _Clock:
    """Seconds of each part, without those of the parts inside it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._inside: list[float] = []
        self._is_whole = False
        self.is_on = False
        self.times: defaultdict[tuple[Any, ...], list[float]] = defaultdict(list)

    @contextmanager
    def part(self, *key: Any, whole: bool = False) -> Iterator[None]:
        """Time what happens meanwhile; `whole`: parts inside are not told apart."""
        if not self.is_on or self._is_whole:
            yield
            return
        synchronise(self._device)
        start = time.perf_counter()
        self._inside.append(0.0)
        self._is_whole = whole
        try:
            yield
        finally:
            synchronise(self._device)
            took = time.perf_counter() - start
            self._is_whole = False
            self.times[key].append(took - self._inside.pop())
            if self._inside:
                self._inside[-1] += took


class _Script(Looks):
    """The looks of a real policy, whatever it says; tokens leave as they are told.

    Args:
        prober: of the policy.
        clock: for its looks.
        kind: of the policy.
    """

    def __init__(self, prober: Prober, clock: _Clock, kind: str) -> None:
        self._prober, self._clock, self._kind = prober, clock, kind
        self.leaving: Collection[int] = ()
        """Rows whose token leaves."""

    def start(self, rows: Sequence[int], positions: Sequence[int]) -> None:
        self._prober.start(rows, positions)

    def looks_at(self, depth: int) -> bool:
        return depth == _FIRST and self._prober.looks_at(depth)

    def leaves(
        self, depth: int, rows: Sequence[int], hidden_RD: torch.Tensor, previous_RD: torch.Tensor
    ) -> tuple[NDArray[np.bool_], torch.Tensor | None]:
        with self._clock.part("probe", self._kind, len(rows), whole=True):
            _, raw = self._prober.leaves(depth, rows, hidden_RD, previous_RD)
        return np.array([row in self.leaving for row in rows]), raw


class _Stack(Stack):
    def __init__(self, loaded: ProvedModel, clock: _Clock) -> None:
        super().__init__(loaded.adapter)
        self._clock = clock

    def calls(self, tokens: Tokens, cache: Any) -> Calls:
        with self._clock.part("arguments", *tokens.ids.shape, whole=True):
            return super().calls(tokens, cache)


class _Reader(Reader):
    clock: _Clock

    def logits(self, depth: int, hidden_RD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with self.clock.part("check", len(hidden_RD), whole=True):
            return super().logits(depth, hidden_RD)


class _States(RowStates):
    clock: _Clock

    def use(self, block: int, rows: tuple[int, ...]) -> None:
        if self._resident[block] == rows:
            return
        with self.clock.part("move", len(rows)):
            super().use(block, rows)


class _Abilities(Abilities):
    def write_state(self, stack: Stack, cache: Any, block: int, calls: Calls, hidden: torch.Tensor) -> None:
        assert isinstance(stack, _Stack)
        with stack._clock.part("completion", block, len(hidden), whole=True):
            super().write_state(stack, cache, block, calls, hidden)


class _Batch(Batch):
    def __init__(self, clock: _Clock, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._clock = clock
        self.states = _States(self.cache, self._abilities.layers)
        self.states.clock = clock
        self.step_name: str | None = None
        """Under which the rest of a step is kept; None: with what is around it."""

    def pass_block(self, block: int, train: Train) -> torch.Tensor:
        with self._clock.part("block", block, len(train.rows), train.hidden.shape[1]):
            return super().pass_block(block, train)

    def step(self, rows: tuple[int, ...], *args: Any, **options: Any) -> tuple[torch.Tensor, list[int]]:
        if self.step_name is None:
            return super().step(rows, *args, **options)
        with self._clock.part(self.step_name, len(rows)):
            return super().step(rows, *args, **options)


class _Run(Run):
    def _choose(self, rows: Sequence[int], logits_RV: torch.Tensor, depths: Sequence[int]) -> None:
        assert isinstance(self.batch, _Batch)
        with self.batch._clock.part("choice", len(rows)):
            super()._choose(rows, logits_RV, depths)


class _LosslessRun(LosslessRun, _Run):
    pass


class LoopTimer:
    """Times the loop of one model, round by round.

    Args:
        loaded: the model.
        context: slots before the tokens, on average.
        rows: rows of a batch, rising from 1.
        tokens: tokens that pass a block together, rising from 1; the last is the most that wait, and one more than the
            most that are drafted.

    Raises:
        CostError: a model of one block, or numbers that do not rise from 1.
        DecodeError: a model that cannot be decoded with early exit.
    """

    def __init__(
        self,
        loaded: ProvedModel,
        *,
        context: int,
        rows: Sequence[int] = (1, 2, 4),
        tokens: Sequence[int] = (1, 2, 4, 8),
        abilities: Abilities | None = None,
    ) -> None:
        if loaded.adapter.num_blocks <= _FIRST:
            raise CostError("a model of one block has nothing to skip, so there is nothing to time")
        for name, values in (("rows", rows), ("tokens", tokens)):
            if not values or values[0] != 1 or list(values) != sorted(set(values)):
                raise CostError(f"{name} are {tuple(values)}, expected rising numbers from 1, e.g. 1, 2, 4")
        self._loaded, self._rows, self._tokens = loaded, tuple(rows), tuple(tokens)
        self._clock = _Clock(loaded.model.device)
        self._stack = _Stack(loaded, self._clock)
        self._reader = _Reader(loaded, None)
        self._reader.clock = self._clock
        found = abilities or find_abilities(loaded, self._stack)
        self._abilities = _Abilities(**vars(found))
        self._means: defaultdict[tuple[Any, ...], list[float]] = defaultdict(list)
        """Of each part and size, one a round."""
        self._num_rounds = 0
        steps = 2 * sum(tokens)
        self._context, self._width = context, max(context - steps // 2, 1)

    @torch.inference_mode()
    def round(self) -> None:
        """Every part, with every number of rows and tokens."""
        head = self._stack._head

        def timed(features: torch.Tensor, *args: Any, forward: Any = head.forward, **kwargs: Any) -> Any:
            with self._clock.part("head", len(features), whole=True):
                return forward(features, *args, **kwargs)

        with forward_replaced(head, timed), self._stack.installed():
            for rows in self._rows:
                self._deferred(rows)
                self._copied(rows)
                self._divided(rows)
            if self._abilities.rolls_back:
                self._drafted()
        for key, seconds in self._clock.times.items():
            self._means[key].append(float(np.mean(seconds)))
        self._clock.times.clear()
        self._num_rounds += 1

    def forget(self) -> None:
        """Drop what was measured so far: it was the warm-up."""
        self._means.clear()
        self._num_rounds = 0

    def times(self) -> DecoderTimes:
        """What was measured so far."""
        blocks = range(self._loaded.adapter.num_blocks)
        return DecoderTimes(
            model=self._loaded.name,
            dtype=str(self._loaded.model.dtype).removeprefix("torch."),
            device=self._loaded.model.device.type,
            context=self._context,
            num_rounds=self._num_rounds,
            blocks=tuple(self._grid("block", block) for block in blocks),
            completions=tuple(self._part("completion", block) for block in blocks[_FIRST:]),
            probes={kind: self._part("probe", kind) for kind in _KINDS},
            arguments=self._grid("arguments"),
            moves=self._part("move") if self._rows != (1,) else None,
            heads=self._part("head"),
            steps=self._part("step"),
            choices=self._part("choice"),
            draft_steps=self._part("draft step") if self._abilities.rolls_back else None,
            checks=self._part("check") if self._abilities.rolls_back else None,
            rounds=self._part("round") if self._abilities.rolls_back else None,
        )

    def _part(self, *name: Any) -> TimedPart:
        """All sizes of one part."""
        sizes = sorted(key[-1] for key in self._means if key[:-1] == name)
        values = [self._means[*name, size] for size in sizes]
        q10, median, q90 = (tuple(float(np.quantile(v, share)) for v in values) for share in (0.1, 0.5, 0.9))
        return TimedPart(rows=tuple(sizes), median_s=median, q10_s=q10, q90_s=q90)

    def _grid(self, *name: Any) -> TimedGrid:
        return TimedGrid(rows=self._rows, parts=tuple(self._part(*name, rows) for rows in self._rows))

    def _begin(self, rows: int, *, state: str = "deferred", lossless: int | None = None) -> Run:
        """A run whose prompts are behind it, the clock switched on."""
        generator = torch.Generator().manual_seed(rows)
        ids = torch.randint(self._loaded.shape.vocab_size, (rows, self._width), generator=generator).tolist()
        # Padding means masks, with which attention takes longer; prompts of a batch hardly ever have one length.
        shorter = [row % self._width if self._loaded.can_pad else 0 for row in range(rows)]
        prompts = [prompt[short:] for prompt, short in zip(ids, shorter, strict=True)]
        batch = _Batch(
            self._clock,
            self._stack,
            self._abilities,
            prompts,
            room=4 * sum(self._tokens),
            prober=self._script("static", rows),
            reader=self._reader,
            state="copy" if state == "copy" else "deferred",
            row_mode="regroup",
            most_waiting=self._tokens[-1],
            device=self._loaded.model.device,
        )
        options: dict[str, Any] = {"limit": _ROOM, "ends": frozenset(), "on_token": lambda row, token, depth: None}
        run = _Run(batch, **options)
        if lossless is not None:
            batch.step_name = "draft step"
            run = _LosslessRun(batch, num_blocks=self._stack.num_blocks, draft=lossless, **options)
        run.begin()
        return run

    def _script(self, kind: str, rows: int) -> _Script:
        policy = _KINDS[kind].model_copy(update={"schedule": Schedule(depths=(_FIRST,))})
        prober = Prober(self._loaded, policy, self._reader, num_rows=rows, answer_limit=_ROOM)
        return _Script(prober, self._clock, kind)

    def _advance(self, run: Run, leaving: Collection[int], kind: str, name: str = "step") -> None:
        """One step, or round, by a script."""
        rows = len(run.rows)
        script = self._script(kind, rows)
        script.leaving = leaving
        run.batch.prober = script
        self._clock.is_on = True
        try:
            with self._clock.part(name, rows):
                run.advance()
        finally:
            self._clock.is_on = False

    def _deferred(self, rows: int) -> None:
        """Chunks of every size, twice: all but the last token of each leave."""
        run = self._begin(rows)
        for cycle in range(2):
            for place, tokens in enumerate(self._tokens):
                kind = list(_KINDS)[(place + cycle) % len(_KINDS)]
                for number in range(tokens):
                    self._advance(run, range(rows) if number < tokens - 1 else (), kind)
        slot = self._width + len(run.rows[0].ids) - 1
        together = tuple(range(rows))
        self._clock.is_on = True
        for tokens in self._tokens:  # asked for earlier tokens, for those of the next step are not known yet
            run.batch.calls(together, slot - tokens - 1, slot - 1)
        self._clock.is_on = False

    def _copied(self, rows: int) -> None:
        run = self._begin(rows, state="copy")
        for kind in _KINDS:
            self._advance(run, range(rows), kind)

    def _divided(self, rows: int) -> None:
        """Rows leave by turns, then all that waits is taken along, then all go together: states come apart and join."""
        run = self._begin(rows)
        for number in range(8):
            self._advance(run, range((number + 1) % 2, rows, 2) if number % 4 < 2 else (), "static")

    def _drafted(self) -> None:
        """Rounds of every length."""
        for tokens in self._tokens:
            run = self._begin(1, lossless=tokens - 1)
            for kind in _KINDS:
                self._advance(run, (0,), kind, name=f"round of {tokens}")
        for tokens in self._tokens:
            self._clock.times["round", tokens] += self._clock.times.pop((f"round of {tokens}", 1))
