"""Permutation tests within strata, against brute force and scipy."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test

from exitbench.stats.arrange import MOST_ARRANGEMENTS, num_arrangements, permutation_p


def _product_with(y):
    return lambda labels: labels @ y


def _brute_force(labels, strata, y):
    """Every order of every stratum, repeats and all."""
    places = [np.flatnonzero(strata == s) for s in np.unique(strata)]
    effects = []
    for orders in product(*(permutations(labels[place]) for place in places)):
        arranged = np.empty(len(labels))
        for place, order in zip(places, orders, strict=True):
            arranged[place] = order
        effects.append(arranged @ y)
    effects, observed = np.array(effects), labels @ y
    return min(1, 2 * min(np.mean(effects >= observed - 1e-12), np.mean(effects <= observed + 1e-12)))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(-3, 3)), min_size=2, max_size=6))
@settings(max_examples=60, deadline=None)
def test_exact_p_is_that_of_brute_force(models):
    """Arrangements that are left out or counted twice where labels, or effects, are tied."""
    labels, strata, y = (np.array(column) for column in zip(*models, strict=True))
    found = permutation_p(labels.astype(float), strata, _product_with(y.astype(float)), rounding=1e-12)
    assert found.exact
    assert found.p == pytest.approx(_brute_force(labels.astype(float), strata, y.astype(float)))
    assert found.p >= found.floor or found.floor == 1


def test_agrees_with_scipy_where_there_is_one_stratum():
    """Another idea of two-sided than the one that the docstring names."""
    rng = np.random.default_rng(3)
    y, groups, one = rng.normal(size=8), np.array([1.0] * 3 + [0.0] * 5), np.zeros(8, np.int64)
    ours = permutation_p(groups, one, lambda labels: (labels @ y) / 3 - ((1 - labels) @ y) / 5, rounding=1e-12)
    theirs = permutation_test((y[:3], y[3:]), lambda a, b: a.mean() - b.mean(), permutation_type="independent")
    assert ours.p == pytest.approx(theirs.pvalue)
    assert ours.floor == pytest.approx(2 / 56)


def test_pairs_are_sign_flips():
    """Pairs whose partners are exchanged with those of other pairs."""
    differences = np.array([0.3, 0.1, 0.25, -0.05, 0.2])
    y = np.column_stack([differences, np.zeros(5)]).ravel()
    labels, strata = np.tile([1.0, 0.0], 5), np.repeat(np.arange(5), 2)
    ours = permutation_p(labels, strata, lambda arranged: (2 * arranged - 1) @ y, rounding=1e-12)
    theirs = permutation_test((differences,), np.sum, permutation_type="samples")
    assert ours.p == pytest.approx(theirs.pvalue)
    assert ours.floor == pytest.approx(2 / 2**5)


def test_a_sample_holds_the_observed_arrangement():
    """A p-value of 0 from a sample, which no number of models justifies."""
    x = np.arange(30, dtype=float)
    one = np.zeros(30, np.int64)
    assert num_arrangements(x, one) > MOST_ARRANGEMENTS
    found = permutation_p(x, one, _product_with(x), rounding=0.0)
    assert not found.exact
    assert found.p == found.floor > 0
    assert found == permutation_p(x, one, _product_with(x), rounding=0.0)


def test_a_sample_stays_within_strata():
    """Levels of strata that come and go with a sample's arrangements, so that an effect seems common."""
    rng = np.random.default_rng(1)
    labels, strata = np.tile([1.0, 0.0], 20), np.repeat([0, 1], 20)
    y = 0.02 * labels + 0.01 * rng.normal(size=40) + np.where(strata == 1, 5.0, 0.0)
    kept = []

    def effect(arranged):
        kept.append(np.ptp(arranged[:, :20].sum(axis=1)))
        return arranged @ y

    found = permutation_p(labels, strata, effect, rounding=1e-12)
    assert not found.exact
    assert max(kept) == 0
    assert found.p < 0.001
    assert permutation_p(labels, strata, effect, rounding=1e-12, seed=1).floor == found.floor == 2 / 10_000


def test_a_p_value_is_at_most_one():
    """Twice a share of over a half, where effects are tied."""
    found = permutation_p(np.array([1.0, 0, 1, 0]), np.zeros(4), _product_with(np.ones(4)), rounding=0.0)
    assert found.p == 1


def test_counts_arrangements():
    """A floor that counts the same labels as many."""
    assert num_arrangements(np.array([1.0, 1, 1, 0, 0, 0]), np.zeros(6, np.int64)) == 20
    assert num_arrangements(np.array([1.0, 0, 1, 0]), np.array([0, 0, 1, 1])) == 4
    assert num_arrangements(np.arange(8.0), np.zeros(8, np.int64)) == 40_320
