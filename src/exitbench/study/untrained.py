"""The untrained null: what twins of a model that have learnt nothing score on the same tokens.

An untrained model's early-exit suitability is not zero: its top-1 token can be settled at any depth by chance, the more
so the less its blocks do, and it varies with the seed. A trained model's figure says something about training only
beside that of twins of the same config. Twins are initialised as transformers does for that architecture, in the
model's dtype, in main memory (so that a seed means the same weights everywhere), moved to its device, proved like any
model, and teacher-forced on the given sequences. One is held at a time, beside the model itself.

Non-goals: intervals over documents, which are not what varies here; other readouts than the model's own.
"""

import copy
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from exitbench.errors import ModelError, OutOfMemoryError, TraceError
from exitbench.models.load import ProvedModel, prove
from exitbench.models.placement import weights_wait_on
from exitbench.models.strict import LOAD_ERRORS, one_line, quiet_transformers
from exitbench.progress import SILENT, Progressor
from exitbench.stats.reasoned import Reasoned, with_reasons
from exitbench.trace.decided import remaining_costs
from exitbench.trace.record import Recorder, SampleFailedError, Stretch

__all__ = ["NUM_TWINS", "Nulls", "Untrained", "untrained_null"]

NUM_TWINS = 5
"""Unless another number is asked for."""
MEMORY = 2**31
"""Bytes to hold at once beside weights and one pass."""


class Untrained(Reasoned):
    """EES of untrained twins; all None, with one reason, where twins cannot be made."""

    seeds: list[int]
    """Of the twins."""
    n_tokens: int
    n_prompts: int
    ees: list[float] | None
    """Of each twin."""
    mean: float | None
    smallest: float | None
    largest: float | None
    """The spread. A third of all further twins lie outside that of five."""


def untrained_null(
    loaded: ProvedModel,
    stretches: Iterable[Stretch],
    *,
    num_twins: int = NUM_TWINS,
    seed: int = 0,
    memory: int = MEMORY,
    progress: Progressor = SILENT,
) -> Untrained:
    """Measure the EES of untrained twins of a model, with its own readout.

    Args:
        loaded: the model.
        stretches: sequences; their tokens from the first row on count, but for the last one of each.
        num_twins: how many.
        seed: of the first; no twin of one seed is a twin of another.
        memory: bytes to hold at once beside weights and one pass.
        progress: where to show a bar.

    Raises:
        TraceError: no token counts.
    """
    counted = [stretch for stretch in stretches if stretch.first_row < len(stretch.ids) - 1]
    if not counted:
        raise TraceError("no token of the given sequences counts; give some with at least one next token")
    seeds = list(range(seed * num_twins, (seed + 1) * num_twins))
    rho = remaining_costs(loaded.shape.block_costs)
    outcomes: dict[str, Any] = dict.fromkeys(("ees", "mean", "smallest", "largest"), _why_not(loaded.model))
    if outcomes["ees"] is None:
        try:
            with progress.bar(f"Untrained twins of {loaded.name}", num_twins) as advance:
                scores = []
                for twin_seed in seeds:
                    depths = _decision_depths(loaded, twin_seed, counted, memory, progress)
                    scores.append(float(rho[depths].mean()))
                    advance(1)
            outcomes = {"ees": scores, "mean": float(np.mean(scores)), "smallest": min(scores), "largest": max(scores)}
        except (ModelError, SampleFailedError, OutOfMemoryError) as error:
            outcomes = dict.fromkeys(outcomes, str(error))
    return Untrained.model_validate(
        with_reasons(outcomes)
        | {
            "seeds": seeds,
            "n_tokens": sum(len(stretch.ids) - 1 - stretch.first_row for stretch in counted),
            "n_prompts": len({stretch.sample for stretch in counted}),
        }
    )


class Nulls:
    """Nulls that were measured, to be asked again: all checkpoints of a training have the same twins."""

    def __init__(self) -> None:
        self._known: dict[str, Untrained] = {}

    def of(
        self, loaded: ProvedModel, stretches: Iterable[Stretch], *, seed: int, memory: int, progress: Progressor
    ) -> Untrained:
        """The null of a model on some sequences, as `untrained_null` gives it; measured if it is new."""
        counted = list(stretches)
        key = _key(loaded, counted, seed)
        if key in self._known:
            return self._known[key]
        null = untrained_null(loaded, counted, seed=seed, memory=memory, progress=progress)
        if null.ees is not None:  # a failure may have been one of the moment
            self._known[key] = null
        return null


def _key(loaded: ProvedModel, stretches: Sequence[Stretch], seed: int) -> str:
    """A hash over all that decides a null."""
    model = loaded.model
    config = {name: value for name, value in model.config.to_dict().items() if name != "_name_or_path"}
    setting = [seed, type(model).__name__, str(model.dtype), str(model.device), config]
    digest = hashlib.sha256(json.dumps(setting, sort_keys=True, default=str).encode())
    for stretch in stretches:
        digest.update(json.dumps([stretch.sample, stretch.first_row, *stretch.ids]).encode())
    return digest.hexdigest()


def _why_not(model: PreTrainedModel) -> str | None:
    """Why a model has no twins, before one is tried."""
    if getattr(model.config, "quantization_config", None) is not None:
        return "its weights are quantised, and a new initialisation would not be"
    weights_on = weights_wait_on(model)
    if "+" in weights_on or weights_on == "disk":
        return f"its weights are spread over {weights_on}, and a twin would be made on one device"
    return None


def _decision_depths(
    loaded: ProvedModel, seed: int, stretches: Sequence[Stretch], memory: int, progress: Progressor
) -> NDArray[np.int32]:
    """(N,) decision depths of a twin, which is gone afterwards."""
    name = f"the untrained twin {seed} of {loaded.name}"
    try:
        with quiet_transformers():
            twin = prove(name, _twin(loaded.model, seed))
    except LOAD_ERRORS as error:
        raise ModelError(f"{name} cannot be made: {one_line(error)}") from error
    recorder = Recorder(twin, fast=True, memory=memory, say=progress.say)
    return np.concatenate([recorder.rows([stretch]).decision_depth for stretch in stretches])


def _twin(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """A model of the same config with weights as its architecture initialises them."""
    kind: Any = type(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        twin: PreTrainedModel = kind._from_config(copy.deepcopy(model.config), dtype=model.dtype)
    twin.generation_config = copy.deepcopy(model.generation_config)
    placed: Any = twin.to(model.device)  # type: ignore[arg-type]
    return placed.eval().requires_grad_(False)  # type: ignore[no-any-return]
