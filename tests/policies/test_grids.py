"""The declared grids."""

import numpy as np

from exitbench.policies.grids import DISTANCES, PROBABILITIES


def test_probabilities_are_dense_near_one():
    """A grid that jumps from 0.99 to never, where careful thresholds live; or one out of order."""
    assert PROBABILITIES.shape == (212,)
    assert np.all(np.diff(PROBABILITIES) > 0)
    assert (PROBABILITIES[0], PROBABILITIES[-1]) == (0.0, 1.0)
    assert 0.9999999 in PROBABILITIES
    assert np.max(np.diff(PROBABILITIES)) < 0.0125


def test_distances_are_dense_near_nothing():
    """A linear grid, on which every careful threshold is the same; a sign the wrong way round; a 0 written as -0."""
    assert DISTANCES.shape == (168,)
    assert np.all(np.diff(DISTANCES) > 0)
    np.testing.assert_allclose([DISTANCES[0], DISTANCES[-2]], [-20, -1e-7])
    assert str(DISTANCES[-1]) == "0.0"
    np.testing.assert_allclose(DISTANCES[:-2] / DISTANCES[1:-1], 10**0.05, rtol=1e-4)
