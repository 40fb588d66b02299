"""Robust slopes within strata."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, theilslopes

from exitbench.stats.trend import _variance_of_s, permuted_trend, theil_sen


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(-20, 20)), min_size=6, max_size=14).filter(
        lambda models: len({x for x, _ in models}) > 1
    )
)
@settings(max_examples=60, deadline=None)
def test_one_stratum_is_scipys(models):
    """A median, or an interval, that differs where models share a place or a figure."""
    x, y = (np.array(column, dtype=float) for column in zip(*models, strict=True))
    ours, theirs = theil_sen(y, x, np.zeros(len(x), np.int64)), theilslopes(y, x)
    assert ours.slope == pytest.approx(theirs.slope)
    ties_on_one_side = len(set(x)) == len(x) or len(set(y)) == len(y)
    if ties_on_one_side and ours.low is not None:  # scipy gives the outermost slopes where so few allow no 95 %
        assert (ours.low, ours.high) == pytest.approx((theirs.low_slope, theirs.high_slope))


def test_variance_with_ties_is_that_of_all_arrangements():
    """An interval from a variance that is too small, or negative, where models share both places and figures."""
    x, y = np.array([1.0, 1, 2, 2, 2, 3]), np.array([1.0, 2, 2, 2, 1, 3])
    first, second = np.triu_indices(6, k=1)
    orders = np.array(list(permutations(y)))
    s = np.sign(orders[:, second] - orders[:, first]) @ np.sign(x[second] - x[first])
    assert _variance_of_s(y, x) == pytest.approx(s.var())
    constant = theil_sen(np.zeros(6), np.array([0.0, 0, 0, 0, 1, 1]), np.zeros(6, np.int64))
    assert constant.no_interval is not None
    constant = theil_sen(np.zeros(6), np.array([0.0, 0, 0, 1, 1, 2]), np.zeros(6, np.int64))
    assert (constant.slope, constant.low, constant.high) == (0, 0, 0)


def test_strata_have_levels_of_their_own():
    """A trend between bands of size that is taken for one over time."""
    x = np.tile(np.arange(5.0), 2)
    y = np.concatenate([0.1 - 0.01 * np.arange(5), 0.9 - 0.01 * np.arange(5)])
    order = np.argsort(np.repeat([1.0, 0.0], 5), kind="stable")
    strata = np.repeat([0, 1], 5)[order]
    found = theil_sen(y[order], x[order], strata)
    assert found.slope == pytest.approx(-0.01)
    assert found.tau == -1


def test_variance_is_summed_over_strata():
    """An interval as wide as if models of all strata were compared with one another."""
    rng = np.random.default_rng(3)
    x, strata = np.tile(np.arange(6.0), 2), np.repeat([0, 1], 6)
    y = rng.normal(size=12)
    first, second = np.triu_indices(6, k=1)
    slopes = np.sort(np.concatenate([(s[second] - s[first]) / (second - first) for s in (y[:6], y[6:])]))
    found = theil_sen(y, x, strata)
    reach = 1.96 * (2 * 6 * 5 * 17 / 18) ** 0.5
    assert found.low == pytest.approx(slopes[round((30 - reach) / 2) - 1])
    assert found.high == pytest.approx(slopes[round((30 + reach) / 2)])


def test_tau_is_kendalls():
    """A standardised trend that is no rank correlation."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=12), rng.normal(size=12)
    assert theil_sen(y, x, np.zeros(12, np.int64)).tau == pytest.approx(kendalltau(x, y).statistic)


def test_permuted_slope_of_ties_is_the_one_observed():
    """A test so coarse that nine models in perfect order are not told from an accident."""
    x = np.array([1.0, 1, 1, 2, 2, 2, 3, 3, 3])
    y = np.array([0.1, 0.12, 0.11, 0.2, 0.22, 0.2, 0.31, 0.3, 0.32])
    one = np.zeros(9, np.int64)
    found = permuted_trend(y, x, one)
    assert found.value == theil_sen(y, x, one).slope
    assert found.exact
    assert found.p == found.floor
    assert found.floor == pytest.approx(2 / 1680)


def test_no_axis_no_trend():
    """A slope of 0, or of infinity, where all models stand at one place."""
    found = permuted_trend(np.array([0.1, 0.2, 0.3]), np.ones(3), np.zeros(3, np.int64))
    assert (found.value, found.p) == (None, None)
    assert "differ on the axis" in found.reason
    assert theil_sen(np.array([0.1]), np.array([1.0]), np.zeros(1, np.int64)) is None


@pytest.mark.parametrize(
    ("x", "strata", "count"),
    [
        (np.arange(3.0), np.zeros(3), 6),
        (np.arange(4.0), np.zeros(4), 24),
        (np.tile([0.0, 1], 4), np.repeat(np.arange(4), 2), 16),
        (np.tile([0.0, 1], 5), np.repeat(np.arange(5), 2), 32),
        (np.repeat([0.0, 1], [3, 4]), np.zeros(7), 35),
    ],
)
def test_few_models_have_no_interval(x, strata, count):
    """All slopes of four models, which hold the true one in 92 % of cases, published as a 95 % interval."""
    found = permuted_trend(np.sqrt(np.arange(len(x))), x, strata.astype(np.int64))
    assert (found.low, found.high) == (None, None)
    assert found.no_interval == (
        f"{count} arrangements of the models allow no p-value below {2 / count:.2g}; 95 % takes 0.05"
    )


@pytest.mark.parametrize(
    ("x", "strata"),
    [
        (np.arange(5.0), np.zeros(5)),
        (np.arange(6.0), np.zeros(6)),
        (np.tile([0.0, 1], 6), np.repeat(np.arange(6), 2)),
        (np.repeat([0.0, 1], [1, 39]), np.zeros(40)),
        (np.repeat([1.0, 2, 3], 3), np.zeros(9)),
        (np.tile(np.arange(3.0), 3), np.repeat(np.arange(3), 3)),
    ],
)
def test_intervals_hold_the_true_slope(x, strata):
    """An interval that is called one of 95 % and is shorter."""
    rng, strata = np.random.default_rng(7), strata.astype(np.int64)
    draws = 2_000
    held = 0
    for _ in range(draws):
        found = theil_sen(0.1 * x + rng.normal(size=len(x)), x, strata)
        held += found.low <= 0.1 <= found.high
    assert held / draws >= 0.95 - 2.5 * np.sqrt(0.05 * 0.95 / draws)


def test_slopes_of_rounding_size_are_none():
    """A trend of 1e-17 with a sign, or figures in perfect order by their last digit."""
    x, one = np.arange(4.0), np.zeros(4, np.int64)
    assert theil_sen(np.array([0.1, 0.6, 0.5, 0.4]), x, one).slope == 0  # the middle slopes are 0.1 and -0.1
    flat = np.array([0.3, 0.3 + 1e-16, 0.3 + 2e-16, 0.3 + 3e-16])
    assert len(set(flat)) > 2
    found = permuted_trend(flat, x, one)
    assert (found.value, found.p, theil_sen(flat, x, one).tau) == (0, 1, 0)
