"""What an operating point is held to: which risk, how small, and how surely.

A target is met by the loosest threshold that its procedure lets through on the calibration prompts. The plain one
("bootstrap", see `crossfit`) is a fair tuning rule; the others are certificates, see `exitbench.stats.certify`, and are
left out where the calibration has too few prompts for them.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from exitbench.errors import ExitbenchError
from exitbench.replay.crossfit import Folds, Part, Rule, bootstrap_rule
from exitbench.replay.sweep import Totals
from exitbench.stats.certify import DELTA, Procedure, certify, prompts_needed
from exitbench.stats.risk import Risk, losses_of

__all__ = ["Target", "missing_prompts", "rule_for", "targets"]

PROCEDURES = ("bootstrap", *get_args(Procedure))

Floats = NDArray[np.float64]


class Target(BaseModel):
    """One bound on one risk."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    eps: float = Field(gt=0, lt=1)
    """Largest risk."""
    procedure: Literal["bootstrap"] | Procedure = "bootstrap"
    risk: Risk = "token"
    """Of what. For the bootstrap: the share of tokens that disagree, whatever their prompts."""
    delta: float = DELTA
    """Chance of a wrong promise; without meaning for the bootstrap and for conformal risk control."""


def targets(*, eps: Sequence[float], procedures: Sequence[str], risk: Risk, delta: float) -> tuple[Target, ...]:
    """Every bound under every procedure.

    Raises:
        ExitbenchError: an eps or delta that is no share, or a risk that the procedure does not know.
    """
    for name, value in [("--eps", value) for value in eps] + [("--delta", delta)]:
        if not 0 < value < 1:
            raise ExitbenchError(f"{name} is {value:g}, expected a share above 0 and below 1; give for example 0.05")
    unknown = [name for name in procedures if name not in PROCEDURES]
    if unknown:
        raise ExitbenchError(f"--procedure is {unknown[0]!r}, expected one of {', '.join(PROCEDURES)}")
    if risk != "token" and "bootstrap" in procedures:
        raise ExitbenchError(
            f"--risk {risk} needs a certificate, the bootstrap bounds tokens only; "
            "add --procedure fixed-sequence, bonferroni or conformal"
        )
    return tuple(
        Target.model_validate({"eps": bound, "procedure": procedure, "risk": risk, "delta": delta})
        for procedure in procedures
        for bound in eps
    )


def rule_for(held_to: Sequence[Target], *, metric: Floats | None = None) -> Rule:
    """Return the rule that chooses a threshold for each target.

    Args:
        held_to: the targets.
        metric: (P,) metric of the full model's own answers; for the task risk.
    """

    def choose(totals: Totals, part: Part) -> list[int | None]:
        return [_index(target, totals, part, metric) for target in held_to]

    return choose


def _index(target: Target, totals: Totals, part: Part, metric: Floats | None) -> int | None:
    if target.procedure == "bootstrap":
        return bootstrap_rule(totals, part, target.eps)
    strict_first = totals.disagreements[:, ::-1]
    of_part = None if metric is None else metric[part.calibrate]
    losses = losses_of(target.risk, strict_first, tokens=totals.tokens, metric=of_part)
    found = certify(losses, procedure=target.procedure, risk=target.risk, eps=target.eps, delta=target.delta).index
    return None if found is None else strict_first.shape[1] - 1 - found


def missing_prompts(
    target: Target, folds: Folds, *, learns: bool, num_thresholds: int, usable: NDArray[np.bool_]
) -> str:
    """Say how many prompts a target lacks; nothing where it lacks none.

    Args:
        target: what is to be promised.
        folds: of the prompts.
        learns: whether one more fold goes to fitting.
        num_thresholds: G.
        usable: (P,) prompts for which the risk is defined.
    """
    if target.procedure == "bootstrap":
        return ""
    needed = prompts_needed(target.procedure, eps=target.eps, delta=target.delta, num_thresholds=num_thresholds)
    there = min(int((part.calibrate & usable).sum()) for part in folds.parts(learns=learns))
    if there >= needed:
        return ""
    surely = "" if target.procedure == "conformal" else f", delta {target.delta:g}"
    return (
        f"a {target.procedure} certificate at {100 * target.eps:g} %{surely} needs at least {needed} calibration "
        f"prompts, got {there}"
    )
