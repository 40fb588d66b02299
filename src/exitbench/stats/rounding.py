"""When a difference is none: figures that should be equal differ in their last digits, by the order of a sum.

An effect of that size has no sign, so nothing turns round by it, and nothing is supported.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ROUNDING", "settled"]

ROUNDING = 1e-9
"""Share of the figures' own size up to which differences are rounding."""

Floats = NDArray[np.float64]


def settled(differences: ArrayLike, size: float) -> Floats:
    """Return differences of figures, with 0 for those that are rounding.

    Args:
        differences: of any shape, or one.
        size: of the figures, in the unit of the differences.
    """
    given = np.asarray(differences, dtype=np.float64)
    return np.where(np.abs(given) <= ROUNDING * size, 0.0, given)
