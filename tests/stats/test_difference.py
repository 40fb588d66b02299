"""Differences of groups of models, against the textbook tests."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy.stats import ttest_ind, ttest_rel

from exitbench.stats.difference import comparable, permuted_difference, student_difference

ONE = np.zeros(7, np.int64)
GROUPS = np.array([1.0, 1, 1, 0, 0, 0, 0])
Y = np.array([0.31, 0.28, 0.33, 0.22, 0.21, 0.27, 0.18])


def test_two_groups_are_welchs():
    """A pooled variance, which groups that differ in spread do not have."""
    ours, theirs = student_difference(Y, GROUPS, ONE), ttest_ind(Y[:3], Y[3:], equal_var=False)
    assert (ours.p, ours.df) == pytest.approx((theirs.pvalue, theirs.df))
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval()))
    assert ours.value / ours.se == pytest.approx(theirs.statistic)
    same_means = student_difference(np.array([1.0, 3, 1, 3]), np.array([1.0, 1, 0, 0]), np.zeros(4, np.int64))
    assert same_means.value == 0
    assert same_means.se == pytest.approx(np.sqrt(2))


def test_pairs_are_the_paired_test():
    """Pairs that are compared as if they were two unrelated groups."""
    rng = np.random.default_rng(1)
    level = rng.normal(size=6)
    base, tuned = level + 0.1 + rng.normal(0, 0.02, 6), level + rng.normal(0, 0.02, 6)
    y = np.column_stack([base, tuned]).ravel()
    x, pairs = np.tile([1.0, 0.0], 6), np.repeat(np.arange(6), 2)
    ours, theirs = student_difference(y, x, pairs), ttest_rel(base, tuned)
    assert (ours.p, ours.df) == pytest.approx((theirs.pvalue, theirs.df))
    assert ours.value == pytest.approx(np.mean(base - tuned))
    assert permuted_difference(y, x, pairs).value == pytest.approx(ours.value)


def test_strata_are_weighted_as_least_squares_does():
    """Two effects of one comparison: one by permutation, another by regression."""
    rng = np.random.default_rng(2)
    x = np.array([1.0, 1, 0, 1, 0, 0, 0, 1, 0])
    strata = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2])
    y = rng.normal(size=9)
    fit = smf.ols("y ~ x + C(strata)", pd.DataFrame({"y": y, "x": x, "strata": strata})).fit()
    assert permuted_difference(y, x, strata).value == pytest.approx(fit.params["x"])
    assert student_difference(y, x, strata).p == pytest.approx(fit.pvalues["x"])


def test_two_strata_have_levels_of_their_own():
    """Two strata taken for one, their difference in level for spread within groups."""
    x, strata = np.tile([1.0, 1, 0, 0], 2), np.repeat([0, 1], 4)
    y = np.array([0.31, 0.33, 0.2, 0.24, 0.91, 0.92, 0.84, 0.8])
    found = student_difference(y, x, strata)
    assert found.df == 5
    assert found.p < 0.01


def test_spread_in_one_group_is_enough():
    """A comparison given up since the models of one group happen to agree."""
    found = student_difference(np.array([0.3, 0.3, 0.3, 0.1, 0.2, 0.15]), np.repeat([1.0, 0.0], 3), np.zeros(6))
    assert found.p == pytest.approx(ttest_ind([0.3] * 3, [0.1, 0.2, 0.15], equal_var=False).pvalue)


def test_small_is_not_rounding():
    """Differences in the fourth digit taken for none."""
    y, x = 0.3 + 1e-4 * np.array([3.0, 4, 5, 0, 1, 2]), np.repeat([1.0, 0.0], 3)
    found = permuted_difference(y, x, np.zeros(6, np.int64))
    assert found.value == pytest.approx(3e-4)
    assert found.p == found.floor
    close = permuted_difference(0.3 + 1e-4 * np.array([3.0, 1, 5, 0, 4, 2]), x, np.zeros(6, np.int64))
    assert close.p == pytest.approx(2 * 7 / 20)


def test_the_floor_is_what_so_few_models_allow():
    """Three seeds against three that seem to reach 5 % by permutation."""
    found = permuted_difference(np.array([3.0, 3.1, 3.2, 1, 1.1, 1.2]), np.repeat([1.0, 0.0], 3), np.zeros(6, np.int64))
    assert found.p == found.floor == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("y", "x", "words"),
    [
        ([0.1, 0.2, 0.3], [1, 0, 0], "2 in each are needed"),
        ([0.1, 0.1, 0.3, 0.3], [1, 1, 0, 0], "do not differ"),
    ],
)
def test_no_spread_no_t_test(y, x, words):
    """A p-value of 0, or NaN in a record, where no error can be seen."""
    found = student_difference(np.array(y), np.array(x, dtype=float), np.zeros(len(y), np.int64))
    assert found.p is None
    assert words in found.reason
    assert permuted_difference(np.array(y), np.array(x, dtype=float), np.zeros(len(y), np.int64)).p is not None


def test_a_difference_of_rounding_size_is_none():
    """An effect of 3e-17 that has a sign, or one arrangement of the same sums that counts as further out."""
    y, x = np.array([0.1, 0.2, 0.3, 0.3, 0.2, 0.1]), np.repeat([1.0, 0.0], 3)
    assert y[:3].mean() != y[3:].mean()
    one, pairs = np.zeros(6, np.int64), np.tile(np.arange(3), 2)
    for found in (student_difference(y, x, one), permuted_difference(y, x, one), student_difference(y, x, pairs)):
        assert found.value == 0
        assert found.p == pytest.approx(1)


def test_no_interval_says_why():
    """A difference whose interval is missing without a word."""
    found = permuted_difference(np.array([0.1, 0.2, 0.3]), np.array([1.0, 0, 0]), np.zeros(3, np.int64))
    assert (found.low, found.high) == (None, None)
    assert "2 in each are needed" in found.no_interval
    assert permuted_difference(Y, GROUPS, ONE).no_interval is None


def test_nobody_to_compare_with():
    """A size that only one kind has, counted as if it were matched."""
    x, strata = np.array([1.0, 0, 1, 1]), np.array([0, 0, 1, 2])
    assert comparable(x, strata).tolist() == [True, True, False, False]
    nothing = np.zeros(0)
    found = permuted_difference(nothing, nothing, np.zeros(0, np.int64))
    assert (found.value, found.p) == (None, None)
    assert found.reason
