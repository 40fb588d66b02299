"""What a plain confidence threshold attains, and what an oracle with the same licence to err would.

The policy: leave at the first depth d in 1..L-1 whose top-1 probability is at least tau, else run the model
to depth L. Depth 0 is no probe, here as in published policies: it reads out the input token's own embedding,
which a model with tied embeddings "predicts" with near certainty. (The oracle may use it; it is never fooled.)
Everything here is gross: probes are free, which is what NES corrects.

Cross-fitting. Prompts are dealt into five folds within category. On four folds the thresholds of `THRESHOLDS`
are scanned from strict (infinity: never leave) to loose, and the loosest is kept such that it *and every
stricter one* hold the one-sided 95 % bootstrap upper bound of token disagreement at or below eps. The scan
stops at the first failure because disagreement need not rise with looseness in a sample: among many
thresholds past a failure some would pass by luck, whereas a fixed order with a stop costs nothing in error
rate (fixed-sequence testing). Savings and disagreement are then measured on the fifth fold and pooled over
folds as ratios of sums; where no threshold qualifies the policy never leaves, a real 0. Intervals resample
prompts with the chosen thresholds held fixed.

The percentile bound trusts the sample: with few prompts that never disagreed it is 0. It is a fair tuning
rule, not a certificate, hence the realised disagreement beside every AES.

Letters: N tokens, L blocks, P prompts, G thresholds, B resamples.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exitbench.stats.bootstrap import (
    Bootstrap,
    Estimate,
    Prompts,
    draw_weights,
    ratio,
    ratio_of_sums,
)
from exitbench.trace.decision import Ids

__all__ = [
    "NUM_FOLDS",
    "THRESHOLDS",
    "Attained",
    "ThresholdTotals",
    "attain",
    "deal_folds",
    "loosest_thresholds",
    "oracle",
    "threshold_totals",
]

NUM_FOLDS = 5
UPPER_PERCENTILE = 95.0

Floats = NDArray[np.float64]


def _threshold_grid() -> Floats:
    # Near 1 what matters is 1 - tau, so the grid is logarithmic there: 20 a decade from 1e-7 (the spacing of
    # float32 near 1) to 0.1, then steps of 0.01 down to 0, where every token leaves at depth 1.
    near_one = 1 - np.logspace(-7, -1, 121)
    below = np.arange(90) / 100
    return np.unique(np.round(np.concatenate([below, near_one, [1.0]]), 9))


THRESHOLDS: Floats = _threshold_grid()
"""(G,) the declared grid of tau, rising from 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class ThresholdTotals:
    """The threshold policy's outcome per prompt and threshold, summed over tokens."""

    savings: Floats
    """(P, G) shares of the blocks' work skipped."""
    disagreements: Floats
    """(P, G) tokens whose prediction at the exit differs from the final one."""
    tokens: Floats
    """(P,)"""


@dataclass(frozen=True, kw_only=True)
class Attained:
    """AES at one eps."""

    savings: Estimate
    disagreement: Estimate
    thresholds: tuple[float | None, ...]
    """Threshold of each held-out fold; None = never leave."""


def threshold_totals(
    top1_id: Ids, top1_prob: NDArray[np.floating[Any]], block_costs: tuple[float, ...], prompts: Prompts
) -> ThresholdTotals:
    """Run the threshold policy at every threshold of the grid, in one pass over tokens and depths.

    At threshold tau a token has left by depth d when its running maximum of probability up to d reaches tau,
    so savings are the sum of c_{d+1} over the depths d by which it has left. Each (token, depth) therefore
    adds one weight to all thresholds up to its running maximum.

    Args:
        top1_id: (N, L + 1) top-1 token by depth.
        top1_prob: (N, L + 1) its probability.
        block_costs: c_1 .. c_L.
        prompts: how the N rows fall into prompts.
    """
    num_blocks, num_slots = len(block_costs), len(THRESHOLDS) + 1
    confidence = top1_prob[:, :num_blocks].astype(np.float64)
    confidence[:, 0] = -np.inf
    confidence = np.maximum.accumulate(confidence, axis=1)
    reached = np.searchsorted(THRESHOLDS, confidence, side="right")  # thresholds at or below the confidence
    slot = (prompts.row_prompt[:, None] * num_slots + reached).ravel()
    wrong = (top1_id != top1_id[:, -1:]).astype(np.int64)

    def at_thresholds(weight: NDArray[Any]) -> Floats:
        added = np.bincount(slot, weights=weight.ravel(), minlength=prompts.num_prompts * num_slots)
        # Threshold g collects the slots above g; summing from the strict end keeps its zeros exact.
        from_strict = np.cumsum(added.reshape(-1, num_slots)[:, ::-1], axis=1)[:, ::-1]
        return np.asarray(from_strict[:, 1:], dtype=np.float64)

    costs = np.broadcast_to(np.asarray(block_costs), confidence.shape)
    return ThresholdTotals(
        savings=at_thresholds(costs),
        disagreements=at_thresholds(wrong[:, :-1] - wrong[:, 1:]),
        tokens=prompts.counts(),
    )


def deal_folds(categories: tuple[str, ...], rng: np.random.Generator) -> NDArray[np.int64]:
    """Deal prompts into folds within category, carrying on where the last category stopped.

    Args:
        categories: (P,) category of each prompt.
        rng: source of randomness.

    Returns:
        (P,) fold of each prompt, 0..NUM_FOLDS-1; sizes differ by at most one, overall and within a category.
    """
    labels = np.asarray(categories)
    groups = [rng.permutation(np.flatnonzero(labels == name)) for name in dict.fromkeys(categories)]
    folds = np.empty(len(labels), dtype=np.int64)
    folds[np.concatenate(groups)] = np.arange(len(labels)) % NUM_FOLDS
    return folds


def loosest_thresholds(upper: Floats, eps_grid: tuple[float, ...]) -> list[int | None]:
    """Scan from strict to loose and stop at the first threshold whose bound exceeds eps.

    Args:
        upper: (G,) upper bound of disagreement at each threshold, in the order of `THRESHOLDS` (loose to
        strict).
        eps_grid: allowed disagreements.

    Returns:
        For each eps the index of the loosest threshold kept; None where even the strictest fails.
    """
    chosen: list[int | None] = []
    for eps in eps_grid:
        kept = int(np.logical_and.accumulate(upper[::-1] <= eps).sum())
        chosen.append(len(upper) - kept if kept else None)
    return chosen


def attain(
    totals: ThresholdTotals,
    prompts: Prompts,
    bootstrap: Bootstrap,
    *,
    eps_grid: tuple[float, ...],
    seed: np.random.SeedSequence,
) -> list[Attained]:
    """Estimate AES(eps), cross-fitted, and the disagreement it meets on held-out prompts.

    Args:
        totals: the policy's outcome by prompt and threshold.
        prompts: the prompts; at least 10.
        bootstrap: resamples for the intervals; calibration draws as many of its own.
        eps_grid: allowed disagreements.
        seed: seed of the folds and of the calibration's resamples.
    """
    rng = np.random.default_rng(seed)
    folds = deal_folds(prompts.categories, rng)
    chosen = []
    for fold in range(NUM_FOLDS):
        others = np.flatnonzero(folds != fold)
        names = [prompts.categories[index] for index in others]
        weights = draw_weights(names, draws=len(bootstrap.weights), rng=rng)
        met = ratio_of_sums(weights, totals.disagreements[others], totals.tokens[others])
        chosen.append(loosest_thresholds(np.percentile(met, UPPER_PERCENTILE, axis=0), eps_grid))
    return [_held_out(totals, folds, [row[i] for row in chosen], bootstrap) for i in range(len(eps_grid))]


def _held_out(
    totals: ThresholdTotals, folds: NDArray[np.int64], chosen: list[int | None], bootstrap: Bootstrap
) -> Attained:
    savings, disagreements = np.zeros(len(folds)), np.zeros(len(folds))
    for fold, index in enumerate(chosen):
        if index is not None:
            held_out = folds == fold
            savings[held_out] = totals.savings[held_out, index]
            disagreements[held_out] = totals.disagreements[held_out, index]
    return Attained(
        savings=bootstrap.mean(savings, totals.tokens),
        disagreement=bootstrap.mean(disagreements, totals.tokens),
        thresholds=tuple(None if index is None else float(THRESHOLDS[index]) for index in chosen),
    )


def oracle(match_counts: Floats, rho: Floats, bootstrap: Bootstrap, *, eps: float) -> Estimate:
    """Estimate Oracle(eps): what a perfect detector saves when floor(eps n) tokens may disagree.

    Every token leaves at its first match, except that the floor(eps n) tokens whose first match is latest
    leave at depth 0 instead; each of those gains rho(0) - rho(first match).

    Args:
        match_counts: (P, L + 1) tokens of each prompt by depth of their first match.
        rho: (L + 1,) share of the work behind each depth.
        bootstrap: resamples of the prompts.
        eps: allowed share of disagreements.
    """
    tokens = match_counts.sum(axis=1)

    def statistic(weights: Floats) -> Floats:
        counts = weights @ match_counts
        num_tokens = counts.sum(axis=1)
        allowed = np.floor(eps * num_tokens + 1e-9)[:, None]  # 0.07 * 100 is a hair above 7, 0.29 * 100 below 29
        this_late = np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]
        later = this_late - counts
        freed = np.minimum(this_late, allowed) - np.minimum(later, allowed)
        return ratio(counts @ rho + freed @ (rho[0] - rho), num_tokens)

    return bootstrap.estimate(statistic, tokens)
