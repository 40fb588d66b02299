"""What every group of figures is made from: a trace, its prompts and the one set of resamples behind all intervals.

A group is one function from `Material` to `Outcomes`: fields of the card, each with its value or the reason why there
is none.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exitbench.stats.bootstrap import Bootstrap, Estimate, Prompts, draw_weights, ratio_of_sums, strata
from exitbench.stats.figure import Curve, Figure
from exitbench.trace.characters import token_characters
from exitbench.trace.decided import remaining_costs
from exitbench.trace.decision import Depths
from exitbench.trace.table import Trace

__all__ = ["Floats", "Material", "Outcomes", "certain", "gather"]

Floats = NDArray[np.float64]
Outcomes = dict[str, Any]
"""Field of the card -> its value, or a string: the reason why it has none."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """A trace, ready to be averaged."""

    trace: Trace
    prompts: Prompts
    bootstrap: Bootstrap

    @cached_property
    def rho(self) -> Floats:
        """(L + 1,) share of the blocks' work behind each depth."""
        return remaining_costs(self.trace.manifest.shape.block_costs)

    @cached_property
    def agrees(self) -> NDArray[np.bool_]:
        """(N, L + 1) whether the top-1 at each depth is the full model's."""
        top1_id = self.trace.top1_id
        return np.asarray(top1_id == top1_id[:, -1:])

    def agrees_at(self, depth: Depths) -> NDArray[np.bool_]:
        """(N,) whether the top-1 of each token at its own depth (N,) is the full model's."""
        return np.asarray(np.take_along_axis(self.agrees, depth[:, None].astype(np.int64), axis=1)[:, 0])

    @property
    def saved(self) -> Floats:
        """(N,) share of the blocks' work behind each token's decision depth."""
        return self.rho[self.trace.decision_depth]

    @property
    def saved_blocks(self) -> Floats:
        """(N,) the same where every block counts alike."""
        return (self.trace.num_blocks - self.trace.decision_depth) / self.trace.num_blocks

    @property
    def has_signals(self) -> bool:
        """Whether more than decisions was recorded."""
        return self.trace.manifest.settings.recorded == "signals"

    @property
    def on_text(self) -> bool:
        """Whether the tokens are given text."""
        return self.trace.manifest.settings.on == "text"

    def mean(self, values: NDArray[Any], keep: NDArray[np.bool_] | None = None) -> Estimate:
        """Estimate the mean of `values` (N, *K) over tokens, over those in `keep` if given."""
        return self.bootstrap.mean(self.prompts.sums(values, keep), self.prompts.counts(keep))

    @cached_property
    def characters(self) -> Floats | str:
        """(N,) characters of the text that each token stands for, or why they are not known."""
        if not self.on_text:
            return "only on given text; here the target is the model's own answer"
        return token_characters(self.trace)

    def per_character(self, values: NDArray[Any]) -> Figure | str:
        """Estimate the sum of `values` (N,) over the number of characters; the reason where that cannot be."""
        if isinstance(self.characters, str):
            return self.characters
        totals, characters = self.prompts.sums(values), self.prompts.sums(self.characters)
        estimate = self.bootstrap.estimate(
            lambda weights: ratio_of_sums(weights, totals, characters), self.prompts.counts()
        )
        return estimate.figure() or "the text has no characters"

    def figure(self, values: NDArray[Any]) -> Figure:
        """Estimate a mean over all tokens."""
        return certain(self.mean(values))

    def signal(self, name: str) -> NDArray[Any]:
        """Return the signal `name`, (N, L + 1)."""
        return self.trace.signals[name]

    def depth_curve(self, values: NDArray[Any]) -> Curve:
        """Estimate the mean of `values` (N, L + 1) at each depth."""
        return self.mean(values).curve("depth", range(self.trace.num_blocks + 1))


def gather(trace: Trace, *, draws: int, seed: np.random.SeedSequence, level: float, pooled: bool) -> Material:
    """Draw the resamples of a trace's prompts.

    Args:
        trace: what was recorded.
        draws: number of resamples.
        seed: of the resamples.
        level: confidence level of all intervals.
        pooled: resample small categories together, see `strata`.
    """
    prompts = Prompts.of(trace)
    within = strata(prompts.categories) if pooled else prompts.categories
    weights = draw_weights(within, draws=draws, rng=np.random.default_rng(seed))
    return Material(trace=trace, prompts=prompts, bootstrap=Bootstrap(weights=weights, level=level))


def certain(estimate: Estimate) -> Figure:
    """Return the figure of an estimate over all tokens, which always exists."""
    figure = estimate.figure()
    assert figure is not None
    return figure
