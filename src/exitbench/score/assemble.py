"""From a trace to its score card.

The trace has its decision depths; groups of figures make outcomes of them and of the signals, and here the outcomes
become a card: a value where there is one, a reason where there is none. Definitions and equations live with the modules
that implement them.
"""

from typing import Any

import numpy as np

from exitbench.errors import TraceError
from exitbench.score.from_decisions import figures_from_decisions
from exitbench.score.from_signals import SIGNALS_NEEDED, figures_from_signals
from exitbench.score.scorecard import NOT_RECORDED, ScoreCard
from exitbench.score.verdict import verdict
from exitbench.stats.bootstrap import LEVEL
from exitbench.stats.figure import Figure
from exitbench.stats.material import Material, Outcomes, gather
from exitbench.stats.reasoned import with_reasons
from exitbench.trace.table import Trace

__all__ = ["ees", "score"]

DRAWS = 2000
MIN_OUTSIDE = 5
"""Resamples outside an interval, of which fewer cannot carry it: those of 100 draws at 95 %."""

_NEEDS_TASK = "not computed: needs the model on a task; measure it with 'exitbench maxskip MODEL --tasks NAME'"


def score(trace: Trace, *, seed: int = 0, draws: int = DRAWS) -> ScoreCard:
    """Compute every figure of a trace; of a fast one, those that need no signals.

    Args:
        trace: what was recorded.
        seed: seed of the bootstrap, the folds and the calibration; equal seeds give equal cards.
        draws: bootstrap resamples, at least 100; more where a precision was asked for.

    Raises:
        TraceError: no tokens, a missing signal or too few draws.
    """
    level = LEVEL if trace.precision is None else trace.precision.level
    _check(trace, draws, level)
    bootstrap_seed, attain_seed = np.random.SeedSequence(seed).spawn(2)
    material = gather(trace, draws=draws, seed=bootstrap_seed, level=level, pooled=trace.precision is not None)
    identity = _identity(material) | {"seed": seed, "draws": draws}
    outcomes = figures_from_decisions(material) | {"max_skip": _NEEDS_TASK}
    if material.has_signals:
        outcomes |= figures_from_signals(material, attain_seed)
    else:
        outcomes |= _not_recorded(identity | outcomes)
    outcomes["precision"] = trace.precision or "not asked for: every prompt was to be used"
    fields = with_reasons(outcomes)
    return ScoreCard.model_validate(identity | fields | {"verdict": verdict(fields, fields["reasons"])})


def ees(trace: Trace, *, level: float, seed: int = 0) -> Figure:
    """EES alone, as `score` gives it where a precision was asked for.

    Args:
        trace: what was recorded.
        level: confidence level of the interval.
        seed: as for `score`.

    Raises:
        TraceError: no tokens, or a missing signal.
    """
    _check(trace, DRAWS, level)
    bootstrap_seed, _ = np.random.SeedSequence(seed).spawn(2)
    material = gather(trace, draws=DRAWS, seed=bootstrap_seed, level=level, pooled=True)
    return material.figure(material.saved)


def _check(trace: Trace, draws: int, level: float) -> None:
    if trace.num_tokens == 0:
        raise TraceError(
            f"trace of {trace.manifest.model.name!r} on {trace.manifest.workload.name!r} holds no tokens: "
            f"{len(trace.failures)} of {len(trace.samples)} samples failed; trace again with other prompts"
        )
    if trace.manifest.settings.recorded == "signals":
        missing = [name for name in SIGNALS_NEEDED if name not in trace.signals]
        if missing:
            raise TraceError(f"trace lacks the signals {', '.join(missing)}, which scoring needs; trace again")
    least = round(MIN_OUTSIDE / (1 - level))
    if draws < least:
        raise TraceError(f"draws must be at least {least} for a {100 * level:g} % interval, got {draws}")


def _identity(material: Material) -> dict[str, Any]:
    trace = material.trace
    copied = ("model", "shape", "facts", "workload", "settings", "libraries", "environment", "command", "created")
    return {name: getattr(trace.manifest, name) for name in copied} | {
        "target": "text" if material.on_text else "own answer",
        "n_tokens": trace.num_tokens,
        "n_prompts": material.prompts.num_prompts,
        "n_failed": len(trace.failures),
    }


def _not_recorded(given: dict[str, Any]) -> Outcomes:
    """Every figure of the card that decisions alone did not give."""
    made_last = {"reasons", "verdict"}
    required = (name for name, field in ScoreCard.model_fields.items() if field.is_required())
    return dict.fromkeys((name for name in required if name not in given.keys() | made_last), NOT_RECORDED)
