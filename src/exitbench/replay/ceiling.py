"""Oracle(eps): what a perfect detector would save with a licence to err, the yardstick of detectability.

Letters: L blocks, P prompts, B resamples.
"""

import numpy as np
from numpy.typing import NDArray

from exitbench.stats.bootstrap import Bootstrap, Estimate, ratio

__all__ = ["oracle"]

Floats = NDArray[np.float64]


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
