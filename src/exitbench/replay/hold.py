"""Policies held to targets: each on its own, and the best of them.

Shapes: N tokens, P prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from exitbench.policies.policy import ExitPolicy, Floats
from exitbench.replay.columns import COLUMNS, CostColumns
from exitbench.replay.crossfit import CrossFit, best_of, calibrated_on_all, cross_fit
from exitbench.replay.folds import Folds
from exitbench.replay.targets import Target, missing_prompts, rule_for
from exitbench.stats.material import Material

__all__ = ["ANY", "Bench", "Held", "best", "hold", "ready"]

ANY = "any"
"""In place of the probe depths, where the best of several policies was chosen."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all policies of a comparison share."""

    material: Material
    folds: Folds
    costs: CostColumns
    targets: tuple[Target, ...]
    num_policies: int
    """How many are compared, the best of which is looked for."""
    metric: Floats | None = None
    """(P,) task metric of the full model's own answers; for the task risk."""

    @property
    def stricter(self) -> tuple[Target, ...]:
        """The targets as each policy must meet them so that the best one may be chosen by the same prompts.

        Of m certificates that each fail with chance delta / m, any fails with chance delta at most.
        """
        return tuple(target.model_copy(update={"delta": target.delta / self.num_policies}) for target in self.targets)


@dataclass(frozen=True, kw_only=True)
class Held:
    """A policy with its exits at every target; a string in place of one says why there is none."""

    name: str
    probes: str
    outcomes: tuple[CrossFit | str, ...]
    as_one_of_many: tuple[CrossFit | str, ...] = ()
    """At the stricter targets."""


def hold(bench: Bench, policy: ExitPolicy) -> Held:
    """Choose the policy's threshold for every target, and see where tokens leave by it."""
    targets = bench.targets + bench.stricter
    reasons = [_why_not(bench, policy, target) for target in targets]
    possible = [target for target, reason in zip(targets, reasons, strict=True) if not reason]
    fits = iter(cross_fit(bench.material, policy, bench.folds, **_how(bench, policy, possible)))
    outcomes = tuple(reason or next(fits) for reason in reasons)
    shown = len(bench.targets)
    return Held(
        name=policy.name, probes=policy.schedule.text, outcomes=outcomes[:shown], as_one_of_many=outcomes[shown:]
    )


def ready(bench: Bench, policy: ExitPolicy) -> list[ExitPolicy | None]:
    """The policy as calibrated on all prompts for each target; None where there are too few prompts for it."""
    fits = [not _why_not(bench, policy, target) for target in bench.targets]
    possible = [target for target, fit in zip(bench.targets, fits, strict=True) if fit]
    calibrated = iter(calibrated_on_all(bench.material, policy, bench.folds, **_how(bench, policy, possible)))
    return [next(calibrated) if fit else None for fit in fits]


def _how(bench: Bench, policy: ExitPolicy, targets: Sequence[Target]) -> dict[str, Any]:
    """By which rule thresholds are chosen, and what tokens and probes count."""
    return {
        "rule": rule_for(targets, metric=bench.metric),
        "columns": bench.costs.of,
        "probe_cost": bench.costs.probe_as_blocks(policy),
    }


def _why_not(bench: Bench, policy: ExitPolicy, target: Target) -> str:
    defined = np.ones(bench.material.prompts.num_prompts, dtype=np.bool_)
    if target.risk == "task":
        assert bench.metric is not None
        defined = ~np.isnan(bench.metric)
    num_thresholds = len(policy.grid(bench.material.trace.num_blocks))
    return missing_prompts(target, bench.folds, learns=policy.learns, num_thresholds=num_thresholds, usable=defined)


def best(bench: Bench, policies: Sequence[Held], *, column: str) -> Held:
    """Choose a policy for each fold by what it saved on that fold's calibration prompts.

    Args:
        bench: whose policies they are.
        policies: all that are compared.
        column: the kind of saving that is to be largest.
    """

    def chosen(of_target: Sequence[CrossFit | str]) -> CrossFit | str:
        fits = [outcome for outcome in of_target if not isinstance(outcome, str)]
        if not fits:
            return next(outcome for outcome in of_target if isinstance(outcome, str))
        return best_of(fits, bench.material, bench.folds, column=COLUMNS.index(column))

    by_target = zip(*(policy.as_one_of_many for policy in policies), strict=True)
    return Held(name=f"best by {column}", probes=ANY, outcomes=tuple(chosen(of_target) for of_target in by_target))
