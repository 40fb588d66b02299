"""The prompt-level bootstrap behind every interval.

Tokens of one prompt depend on one another, so whole prompts (all their turns) are resampled, within their
category, which keeps the mix of the workload fixed. A resample is a row of a weight matrix W (draws x
prompts): how often each prompt was drawn. Every figure is a function of such weights; its value is that
function at all-one weights and its interval the 2.5 % and 97.5 % percentiles over the rows of W (others, where
a precision was asked for: see `looks`). All figures of a card share one W, so derived ones (EES*,
detectability) are paired for free.

Limits, on purpose: a category of one prompt is drawn with weight 1 every time and adds no width; with fewer
than 10 prompts, or where a resample leaves the figure undefined, there is no interval at all rather than a
flattering one.

Letters: N tokens, P prompts, B resamples, K any trailing axis (depths, thresholds) or none.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exitbench.stats.figure import Curve, Figure
from exitbench.trace.table import Trace

__all__ = [
    "LEVEL",
    "MIN_PROMPTS",
    "Bootstrap",
    "Estimate",
    "Prompts",
    "draw_weights",
    "ratio",
    "ratio_of_sums",
    "strata",
]

MIN_PROMPTS = 10
MIN_STRATUM = 5
LEVEL = 0.95
"""Confidence level of intervals, unless a precision was asked for."""

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Weights (B, P) -> figure per resample (B, *K)."""


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """How the rows of a trace fall into prompts; samples without a token are no prompts."""

    row_prompt: NDArray[np.int64]
    """(N,) prompt of each row, 0..P-1, in workload order."""
    categories: tuple[str, ...]
    """(P,) category of each prompt."""

    @classmethod
    def of(cls, trace: Trace) -> "Prompts":
        """Group the rows of `trace` by sample."""
        used, row_prompt = np.unique(trace.sample_index, return_inverse=True)
        categories = tuple(trace.samples[index].category for index in used)
        return cls(row_prompt=row_prompt.astype(np.int64), categories=categories)

    @property
    def num_prompts(self) -> int:
        """P."""
        return len(self.categories)

    def counts(self, keep: NDArray[np.bool_] | None = None) -> Floats:
        """Return (P,) tokens of each prompt, of those in `keep` (N,) if given."""
        rows = self.row_prompt if keep is None else self.row_prompt[keep]
        return np.bincount(rows, minlength=self.num_prompts).astype(np.float64)

    def sums(self, values: NDArray[Any], keep: NDArray[np.bool_] | None = None) -> Floats:
        """Return (P, *K) sums of `values` (N, *K) over each prompt's tokens, of those in `keep` if given."""
        picked = values if keep is None else values[keep]
        rows = self.row_prompt if keep is None else self.row_prompt[keep]
        totals = np.zeros((self.num_prompts, *values.shape[1:]))
        if len(rows):
            starts = np.flatnonzero(np.diff(rows, prepend=-1))
            totals[rows[starts]] = np.add.reduceat(picked, starts, axis=0, dtype=np.float64)
        return totals

    def depth_counts(self, depths: NDArray[np.integer[Any]], num_depths: int) -> Floats:
        """Return (P, num_depths) how many tokens of each prompt have each of `depths` (N,)."""
        cell = self.row_prompt * num_depths + depths
        counts = np.bincount(cell, minlength=self.num_prompts * num_depths)
        return counts.reshape(self.num_prompts, num_depths).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure, or a curve of them, with its resamples."""

    value: Floats
    """(*K) on the prompts as they are."""
    resamples: Floats
    """(B, *K)."""
    n_tokens: int
    n_prompts: int
    level: float
    """Confidence level of the interval."""

    def map(self, function: Callable[..., Floats], *others: "Estimate") -> "Estimate":
        """Apply `function` to the value, and to the resamples, of this estimate and the paired `others`."""
        return replace(
            self,
            value=function(self.value, *(other.value for other in others)),
            resamples=function(self.resamples, *(other.resamples for other in others)),
        )

    def figure(self) -> Figure | None:
        """The single number with its interval; None where it is undefined."""
        assert self.value.shape == (), self.value.shape
        (value,), (low,), (high,) = self._columns()
        if value is None:
            return None
        return Figure(value=value, low=low, high=high, n_tokens=self.n_tokens, n_prompts=self.n_prompts)

    def curve(self, axis: str, at: Sequence[float]) -> Curve:
        """The numbers along `axis`, with their pointwise intervals."""
        value, low, high = self._columns()
        return Curve(axis=axis, at=list(at), value=value, low=low, high=high)

    def _columns(self) -> tuple[list[float | None], list[float | None], list[float | None]]:
        value = np.atleast_1d(self.value)
        missing: list[float | None] = [None] * len(value)
        if self.n_prompts < MIN_PROMPTS:
            return _plain(value), missing, missing
        # np.percentile spreads a NaN to both ends: an undefined resample means no interval.
        tail = 100 * (1 - self.level) / 2
        low, high = np.percentile(self.resamples.reshape(len(self.resamples), -1), (tail, 100 - tail), axis=0)
        return _plain(value), _plain(low), _plain(high)


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """Resampled prompts, shared by all figures of a card."""

    weights: Floats
    """W, (B, P): times each prompt was drawn."""
    level: float = LEVEL
    """Confidence level of the intervals."""

    def estimate(self, statistic: Statistic, tokens: Floats) -> Estimate:
        """Evaluate `statistic` on the prompts as they are and on every resample.

        Args:
            statistic: function of weights (B, P).
            tokens: (P,) tokens of each prompt that the figure rests on.
        """
        return Estimate(
            value=statistic(np.ones((1, self.weights.shape[1])))[0],
            resamples=statistic(self.weights),
            n_tokens=int(tokens.sum()),
            n_prompts=int((tokens > 0).sum()),
            level=self.level,
        )

    def mean(self, totals: Floats, tokens: Floats) -> Estimate:
        """Estimate a mean over tokens, as the ratio of sums over prompts.

        Args:
            totals: (P, *K) sum over each prompt's tokens.
            tokens: (P,) tokens of each prompt that went into `totals`.
        """
        return self.estimate(lambda weights: ratio_of_sums(weights, totals, tokens), tokens)


def strata(categories: Sequence[str]) -> list[str]:
    """Put categories of fewer than 5 prompts together, as those within which prompts are resampled.

    A category of n prompts shows (n - 1) / n of its variance when resampled on its own, and of one prompt none.
    Together they also show how they differ, which is more than is asked for, and so errs on the side of width.

    Args:
        categories: (P,) category of each prompt.

    Returns:
        (P,) names to resample within.
    """
    sizes = Counter(categories)
    return [category if sizes[category] >= MIN_STRATUM else "" for category in categories]


def draw_weights(categories: Sequence[str], *, draws: int, rng: np.random.Generator) -> Floats:
    """Resample prompts within their category.

    Args:
        categories: (P,) category of each prompt.
        draws: B.
        rng: source of randomness.

    Returns:
        (B, P) times each prompt was drawn; within a category each row sums to its number of prompts.
    """
    labels = np.asarray(categories)
    weights = np.empty((draws, len(labels)))
    for category in dict.fromkeys(categories):
        members = np.flatnonzero(labels == category)
        even = np.full(len(members), 1 / len(members))
        weights[:, members] = rng.multinomial(len(members), even, size=draws)
    return weights


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide; NaN where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    result = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=result, where=denominator != 0)
    return result


def ratio_of_sums(weights: Floats, totals: Floats, tokens: Floats) -> Floats:
    """Return the mean per token in each resample: weights (B, P), totals (P, *K), tokens (P,) -> (B, *K)."""
    sums = weights @ totals
    return ratio(sums, (weights @ tokens).reshape(-1, *[1] * (sums.ndim - 1)))


def _plain(values: Floats) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
