"""Thresholds chosen on some prompts, and what they do on others.

For each of the `folds` the threshold is chosen on the others and the tokens of the fold itself leave by it; pooled,
every token has been judged by a threshold that never saw its prompt. A policy that is trained is fitted on prompts of
its own, for a threshold chosen where the policy was fitted trusts it too much. Where no threshold qualifies no token
leaves early, a real 0.

The plain rule ("bootstrap"): the thresholds of the declared grid are scanned from strict to loose, and the loosest is
kept such that it *and every stricter one* hold the one-sided 95 % bootstrap upper bound of token disagreement at or
below eps. The scan stops at the first failure because disagreement need not rise with looseness in a sample: among
many thresholds past a failure some would pass by luck, whereas a fixed order with a stop costs nothing in error rate
(fixed-sequence testing). The percentile bound trusts the sample: with few prompts that never disagreed it is 0. It is a
fair tuning rule, not a certificate, hence the disagreement really met beside every saving. Certificates are the other
rules, see `exitbench.stats.certify`.

Shapes: N tokens, L blocks, P prompts, G thresholds, B resamples, C columns of costs or savings.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from exitbench.policies.policy import Calibration, ExitPolicy, Seen
from exitbench.replay.folds import NUM_FOLDS, Folds, Part
from exitbench.replay.look import calibration_of, look
from exitbench.replay.sweep import Totals, sweep
from exitbench.stats.bootstrap import ratio_of_sums
from exitbench.stats.material import Material
from exitbench.trace.decision import Depths

__all__ = [
    "Columns",
    "CrossFit",
    "Rule",
    "best_of",
    "bootstrap_rule",
    "calibrated_on_all",
    "cross_fit",
    "loosest_threshold",
]

UPPER_PERCENTILE = 95.0

Floats = NDArray[np.float64]
Columns = Callable[[ExitPolicy], Floats]
"""(L + 1, C) what a token that leaves at each depth counts, given a policy's probe depths."""


def loosest_threshold(upper: Floats, eps: float) -> int | None:
    """Scan from strict to loose and stop at the first threshold whose bound exceeds eps.

    Args:
        upper: (G,) upper bound of disagreement at each threshold, in the order of a grid (loose to strict).
        eps: allowed disagreement.

    Returns:
        The index of the loosest threshold kept; None where even the strictest fails.
    """
    kept = int(np.logical_and.accumulate(upper[::-1] <= eps).sum())
    return len(upper) - kept if kept else None


class Rule(Protocol):
    """How a threshold is chosen."""

    def __call__(self, totals: Totals, part: Part, /) -> list[int | None]:
        """Index of the chosen threshold for each of the rule's targets, None where none qualifies.

        Args:
            totals: of the calibration prompts.
            part: which prompts those are, with resamples of them.
        """


def bootstrap_rule(totals: Totals, part: Part, eps: float) -> int | None:
    """The plain rule of this module."""
    met = ratio_of_sums(part.weights, totals.disagreements, totals.tokens)
    return loosest_threshold(np.percentile(met, UPPER_PERCENTILE, axis=0), eps)


@dataclass(frozen=True, kw_only=True)
class CrossFit:
    """Where every token leaves by thresholds chosen on other prompts, for one target."""

    exit_depth: Depths
    """(N,)"""
    values: Floats
    """(N, C) what each token counts, in the columns asked for."""
    policies: tuple[ExitPolicy, ...]
    """As fitted and calibrated for each fold."""
    calibrated: Floats
    """(folds, C) mean of the columns over the calibration tokens of each fold, at its threshold."""


def cross_fit(
    material: Material,
    policy: ExitPolicy,
    folds: Folds,
    *,
    rule: Rule,
    columns: Columns,
    probe_cost: float = 0.0,
) -> list[CrossFit]:
    """Choose a policy's threshold on four folds and let the tokens of the fifth leave by it, five times.

    Args:
        material: of a trace with the signals that the policy looks at.
        policy: uncalibrated.
        folds: of the trace's prompts.
        rule: how thresholds are chosen.
        columns: what a token counts; the first column is the share of the blocks' work saved.
        probe_cost: of one failed probe, as a share of the blocks' work, for probe depths that are to be learned.

    Returns:
        One for each target of the rule.
    """
    replayed = None
    by_fold: list[list[CrossFit]] = []
    for part in folds.parts(learns=policy.learns):
        if policy.learns:
            replayed = _replayed(material, _fitted(material, policy, part, probe_cost), columns)
        elif replayed is None:
            replayed = _replayed(material, policy, columns)
        chosen = rule(replayed.totals.of(part.calibrate), part)
        by_fold.append([_held_out(material, replayed, part, index) for index in chosen])
    rows = np.concatenate([np.flatnonzero(folds.fold[material.prompts.row_prompt] == f) for f in range(NUM_FOLDS)])
    return [_pooled(of_target, np.argsort(rows)) for of_target in zip(*by_fold, strict=True)]


def calibrated_on_all(
    material: Material, policy: ExitPolicy, folds: Folds, *, rule: Rule, columns: Columns, probe_cost: float
) -> list[ExitPolicy]:
    """Return the policy with the threshold that all prompts together choose, for each target of the rule.

    Args:
        material: as for `cross_fit`, as are the others.
        policy: uncalibrated.
        folds: of the trace's prompts.
        rule: how thresholds are chosen.
        columns: what a token counts.
        probe_cost: of one failed probe.
    """
    part = folds.whole(learns=policy.learns)
    ready = _fitted(material, policy, part, probe_cost) if policy.learns else policy
    replayed = _replayed(material, ready, columns)
    chosen = rule(replayed.totals.of(part.calibrate), part)
    thresholds = [None if index is None else float(replayed.grid[index]) for index in chosen]
    return [ready.model_copy(update={"threshold": threshold}) for threshold in thresholds]


@dataclass(frozen=True, kw_only=True)
class _Replayed:
    """A policy that has seen a whole trace, at every threshold."""

    policy: ExitPolicy
    seen: Seen
    counted: Floats
    """(L + 1, C)"""
    grid: Floats
    totals: Totals


def _replayed(material: Material, policy: ExitPolicy, columns: Columns) -> _Replayed:
    seen, counted, grid = look(material.trace, policy), columns(policy), policy.grid(material.trace.num_blocks)
    totals = sweep(policy.scores(seen), seen.depths, material.agrees, counted, material.prompts, grid)
    return _Replayed(policy=policy, seen=seen, counted=counted, grid=grid, totals=totals)


def _fitted(material: Material, policy: ExitPolicy, part: Part, probe_cost: float) -> ExitPolicy:
    """Probe depths first, then what is fitted at them."""
    keep = part.fit[material.prompts.row_prompt]

    def calibration(at: ExitPolicy) -> Calibration:
        return calibration_of(material.trace, at, keep=keep, rho=material.rho, probe_cost=probe_cost)

    scheduled = policy.scheduled(calibration(policy))
    return scheduled.fitted(calibration(scheduled))


def _held_out(material: Material, replayed: _Replayed, part: Part, index: int | None) -> CrossFit:
    """The tokens of one fold, leaving by the chosen threshold; no probe is made where none was chosen."""
    rows, num_columns = part.held_out[material.prompts.row_prompt], replayed.counted.shape[1]
    if index is None:
        stays = np.full(rows.sum(), material.trace.num_blocks, dtype=np.int32)
        nothing = np.zeros(num_columns)
        never = replayed.policy.model_copy(update={"threshold": None})
        values = np.zeros((len(stays), num_columns))
        return CrossFit(exit_depth=stays, values=values, policies=(never,), calibrated=nothing[None])
    policy = replayed.policy.model_copy(update={"threshold": float(replayed.grid[index])})
    depth = policy.exits(replayed.seen.rows(rows))
    of_part = replayed.totals.of(part.calibrate)
    calibrated = of_part.values[:, index].sum(axis=0) / of_part.tokens.sum()
    return CrossFit(
        exit_depth=depth.astype(np.int32),
        values=replayed.counted[depth],
        policies=(policy,),
        calibrated=calibrated[None],
    )


def _pooled(folds: Sequence[CrossFit], order: NDArray[np.int64]) -> CrossFit:
    """The folds together, their tokens brought into the given order."""
    return CrossFit(
        exit_depth=np.concatenate([fold.exit_depth for fold in folds])[order],
        values=np.concatenate([fold.values for fold in folds])[order],
        policies=tuple(policy for fold in folds for policy in fold.policies),
        calibrated=np.concatenate([fold.calibrated for fold in folds]),
    )


def best_of(fits: Sequence[CrossFit], material: Material, folds: Folds, *, column: int) -> CrossFit:
    """Choose a policy for each fold by what it saved on that fold's calibration tokens.

    Args:
        fits: of several policies for one target, with the same folds.
        material: of the trace.
        folds: of its prompts.
        column: which of the columns is to be as large as possible; where none is above 0, no token leaves early.
    """
    values = np.zeros_like(fits[0].values)
    depth = np.full_like(fits[0].exit_depth, material.trace.num_blocks)
    calibrated = np.zeros_like(fits[0].calibrated)
    policies: list[ExitPolicy] = []
    for fold, saved in enumerate(zip(*(fit.calibrated[:, column] for fit in fits), strict=True)):
        ranked = np.nan_to_num(saved, nan=-np.inf)  # a policy without that figure is not the best by it
        winner = fits[int(np.argmax(ranked))]
        if ranked.max() > 0:
            rows = folds.fold[material.prompts.row_prompt] == fold
            values[rows], depth[rows] = winner.values[rows], winner.exit_depth[rows]
            calibrated[fold] = winner.calibrated[fold]
            policies.append(winner.policies[fold])
        else:
            policies.append(winner.policies[fold].model_copy(update={"threshold": None}))
    return CrossFit(exit_depth=depth, values=values, policies=tuple(policies), calibrated=calibrated)
