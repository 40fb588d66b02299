"""Declared grids of thresholds, rising from loose to strict.

Fixed beforehand, because thresholds taken from the data they are then judged on would spoil every guarantee. Where what
matters is the distance from an end of the scale, the grid is logarithmic there.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["DISTANCES", "PROBABILITIES"]

Floats = NDArray[np.float64]


def _probabilities() -> Floats:
    # Near 1 what matters is 1 - p: 20 a decade from 1e-7 (the spacing of float32 near 1) to 0.1, then steps of 0.01
    # down to 0, where every token leaves at the first probe.
    near_one = 1 - np.logspace(-7, -1, 121)
    below = np.arange(90) / 100
    return np.unique(np.round(np.concatenate([below, near_one, [1.0]]), 9))


PROBABILITIES: Floats = _probabilities()
"""(212,) for scores that are shares, from 0 to 1."""

DISTANCES: Floats = np.append(-np.logspace(np.log10(20), -7, 167), 0.0)
"""(168,) for scores that are minus a distance (entropy, divergence, 1 - cosine): -20 to 0, 20 a decade."""
