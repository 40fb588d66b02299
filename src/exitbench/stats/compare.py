"""Whether two policies differ, over the same prompts, when several are compared at once."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["bootstrap_p", "holm"]


def bootstrap_p(differences: NDArray[np.float64]) -> float:
    """Two-sided p-value of "no difference" from paired resamples of a difference.

    Twice the smaller tail beyond 0, resamples on 0 in both, one added to each count so that no p-value is 0 (Davison
    and Hinkley, Bootstrap Methods and their Application, 1997, section 4.2.3).

    Args:
        differences: (B,) the difference in each resample.
    """
    tails = (np.sum(differences <= 0), np.sum(differences >= 0))
    return float(min(1.0, 2 * (min(tails) + 1) / (len(differences) + 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for being one of several (Holm, Scandinavian Journal of Statistics 6, 1979).

    Args:
        p_values: of every comparison made.

    Returns:
        In the same order; those at most alpha are significant with a chance of at most alpha of any false one.
    """
    order = np.argsort(p_values, kind="stable")
    stepped = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return [float(p) for p in adjusted]
