"""When a token's prediction is settled, under other readings of "settled" than the decision depth, and what that saves.

Everything here is exact work on recorded signals (rounding and ties were dealt with when they were recorded). Shapes:
N tokens, L blocks; depth d = blocks executed, 0..L. Non-goals: averages and intervals.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exitbench.trace.decision import Depths, Ids, settled_from

__all__ = ["final_run", "first_match_depths", "remaining_costs", "tv_depths"]


def remaining_costs(block_costs: Sequence[float]) -> NDArray[np.float64]:
    """Return rho(d) = sum of c_k for k > d, the share of the blocks' work that lies behind depth d.

    Args:
        block_costs: c_1 .. c_L, shares of all blocks that sum to 1.

    Returns:
        (L + 1,) shares, falling from 1 at depth 0 to exactly 0 at depth L.
    """
    costs = np.asarray(block_costs, dtype=np.float64)
    assert np.all(costs >= 0), costs
    assert abs(costs.sum() - 1) < 1e-6, costs.sum()
    return np.append(np.cumsum(costs[::-1])[::-1], 0.0)


def first_match_depths(top1_id: Ids) -> Depths:
    """Return the first depth whose top-1 token is the final one, even if a later depth changes its mind.

    Args:
        top1_id: (N, L + 1) top-1 token by depth.

    Returns:
        (N,) depths, 0..L; never later than the decision depth.
    """
    return np.asarray(np.argmax(top1_id == top1_id[:, -1:], axis=1), dtype=np.int32)


def tv_depths(tv_final: NDArray[np.floating[Any]], bound: float) -> Depths:
    """Return the smallest depth at and after which total variation to the final one is below `bound`.

    Sampling needs the distribution, not only its mode, to be settled.

    Args:
        tv_final: (N, L + 1) total variation to the final distribution, 0..1; 0 at depth L.
        bound: share of probability mass, above 0.

    Returns:
        (N,) depths, 0..L.
    """
    return settled_from(tv_final < bound)


def final_run(top1_id: Ids) -> tuple[Ids, Depths]:
    """Return what a token predicts just before the last block, and since when it has done so.

    Args:
        top1_id: (N, L + 1) top-1 token by depth.

    Returns:
        v, the top-1 at depth L - 1, and s, the start of its last constant run below L; both (N,).
    """
    below = top1_id[:, :-1]
    return below[:, -1], settled_from(below == below[:, -1:])
