"""P-values from resamples, and their adjustment, against hand computation and a slow reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitbench.stats.compare import bootstrap_p, holm


def test_p_value_by_hand():
    """One tail in place of two, resamples on 0 forgotten, or a p-value of 0."""
    # 2 of 19 at or below 0, 18 at or above: 2 * (2 + 1) / 20.
    assert bootstrap_p(np.array([-1.0, 0.0] + [1.0] * 17)) == pytest.approx(0.3)
    assert bootstrap_p(np.ones(99)) == pytest.approx(2 / 100)
    assert bootstrap_p(-np.ones(99)) == pytest.approx(2 / 100)
    assert bootstrap_p(np.zeros(99)) == 1.0


def test_no_difference_is_rarely_significant():
    """A test that finds differences where there are none more often than it says."""
    rng = np.random.default_rng(0)
    # The resampled mean of n standard normal differences is normal around the sample's own.
    centres = rng.normal(size=2_000)
    found = np.mean([bootstrap_p(centre + rng.normal(size=400)) <= 0.05 for centre in centres])
    assert found == pytest.approx(0.05, abs=0.015)  # three standard errors


def test_holm_by_hand():
    """The smallest multiplied by the wrong count, adjusted values that fall, or values above 1."""
    # Sorted 0.01, 0.02, 0.03, 0.5 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.5.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


def stepwise(p_values, alpha):
    """Holm as it was published: reject the smallest while it is at most alpha / (those left), then stop."""
    left, rejected = sorted(range(len(p_values)), key=lambda index: p_values[index]), set()
    while left and p_values[left[0]] <= alpha / len(left):
        rejected.add(left.pop(0))
    return rejected


@settings(deadline=None)
@given(st.lists(st.floats(0.001, 1), max_size=8, unique=True), st.floats(0.01, 0.5))
def test_holm_rejects_what_the_stepwise_procedure_rejects(p_values, alpha):
    """An adjustment that is Bonferroni's, or that goes on after the first failure."""
    adjusted = holm(p_values)
    near = any(abs(value - alpha) < 1e-9 for value in adjusted)
    assert near or {index for index, value in enumerate(adjusted) if value <= alpha} == stepwise(p_values, alpha)
    assert all(before <= after for before, after in zip(p_values, adjusted, strict=True))
