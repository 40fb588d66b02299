"""The decision depth on recorded top-1 ids: since when a prediction has been the final one.

Exact integer work (rounding and ties were dealt with when the ids were recorded), and the one definition for what is
written to a trace, what is checked when it is read, and what is scored. Straight from hidden states the same depths
come from `exitbench.signals.lazy`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Depths", "Ids", "decision_depths", "settled_from"]

Depths = NDArray[np.int32]
Ids = NDArray[np.integer[Any]]


def settled_from(holds: NDArray[np.bool_]) -> Depths:
    """Return the smallest depth from which a condition holds at every depth up to the last one.

    Args:
        holds: (N, D) whether the condition holds at each depth.

    Returns:
        (N,) first column of the last unbroken run of True; D where the last column is False.
    """
    trailing = np.logical_and.accumulate(holds[:, ::-1], axis=1).sum(axis=1)
    return np.asarray(holds.shape[1] - trailing, dtype=np.int32)


def decision_depths(top1_id: Ids) -> Depths:
    """Return D_t: the smallest depth at and after which the top-1 token is always the final one.

    Args:
        top1_id: (N, L + 1) top-1 token by depth.

    Returns:
        (N,) depths, 0..L.
    """
    return settled_from(top1_id == top1_id[:, -1:])
