"""Oracle(eps): what a perfect detector would save with a licence to err, the yardstick of detectability.

Letters: L blocks, P prompts, B resamples.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from exitbench.stats.bootstrap import Bootstrap, Estimate, ratio
from exitbench.stats.material import Material
from exitbench.trace.decided import first_match_depths

__all__ = ["oracle", "oracles"]

Floats = NDArray[np.float64]


def oracles(material: Material, eps_grid: Iterable[float]) -> list[Estimate]:
    """Estimate Oracle(eps) of a trace with signals, for each eps."""
    first_match = first_match_depths(material.trace.top1_id)
    counts = material.prompts.depth_counts(first_match, material.trace.num_blocks + 1)
    return [oracle(counts, material.rho, material.bootstrap, eps=eps) for eps in eps_grid]


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
