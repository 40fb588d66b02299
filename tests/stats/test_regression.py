"""Regressions over few models, and their power."""

import numpy as np
import pytest
from scipy.stats import t
from statsmodels.stats.power import TTestIndPower

from exitbench.stats.regression import detectable, hedges, regress

RNG = np.random.default_rng(5)


def _models(n, slope):
    x = RNG.normal(size=n)
    return slope * x + RNG.normal(0, 0.01, n), x, np.zeros(n, np.int64)


def test_recovers_a_slope_with_covariates_and_strata():
    """A covariate, or a stratum, whose share of the figure is given to the slope."""
    n = 40
    x, held = RNG.normal(size=n), RNG.normal(size=(n, 2))
    x = x + held[:, 0]
    strata = np.arange(n) % 3
    y = 0.3 * x + 0.8 * held[:, 0] - 0.2 * held[:, 1] + strata + RNG.normal(0, 0.01, n)
    found = regress(y, x, strata, covariates=held)
    assert found.low < 0.3 < found.high
    assert found.value == pytest.approx(0.3, abs=0.01)
    assert found.df == n - 1 - 3 - 2


def test_clustered_error_by_hand():
    """Errors of models taken one by one under the name of clusters, or normal instead of t quantiles."""
    y, x, one = _models(12, 0.1)
    clusters = np.arange(12) // 3
    found = regress(y, x, one, clusters=clusters)
    centred = x - x.mean()
    design = np.column_stack([centred, np.ones(12)])
    beta = np.linalg.lstsq(design, y, rcond=None)[0]
    scores = design * (y - design @ beta)[:, None]
    sums = np.array([scores[clusters == c].sum(axis=0) for c in range(4)])
    bread = np.linalg.inv(design.T @ design)
    variance = (bread @ sums.T @ sums @ bread)[0, 0] * 4 / 3 * 11 / 10
    assert found.se == pytest.approx(np.sqrt(variance))
    assert found.df == 2
    assert found.high - found.low == pytest.approx(2 * t.ppf(0.975, 2) * found.se)
    assert found.p == pytest.approx(2 * t.sf(abs(found.value) / found.se, 2))


@pytest.mark.parametrize(
    ("clusters", "x", "words"),
    [
        ([0, 0, 0, 1, 1, 1], [1, 2, 3, 4, 5, 6], "2 clusters, 3 are needed"),
        ([0, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6], "1 cluster, 3 are needed"),
        ([0, 0, 0, 1, 1, 2], [1, 1, 1, 0, 0, 0], "single cluster"),
    ],
)
def test_too_few_clusters(clusters, x, words):
    """One family against two others, whose clustered error is exactly 0."""
    y = np.array([0.1, 0.15, 0.2, 0.4, 0.3, 0.5])
    found = regress(y, np.array(x, dtype=float), np.zeros(6, np.int64), clusters=np.array(clusters))
    assert found.p is None
    assert words in found.reason


def test_what_cannot_be_told_apart():
    """A coefficient out of rounding where a covariate is the axis itself, or where models run out."""
    y, x, one = _models(8, 0.1)
    assert "nothing to compare" in regress(y, x, one, covariates=x[:, None]).reason
    assert "more than these" in regress(y[:3], x[:3], one[:3], least_df=3).reason
    assert "do not differ" in regress(x * 0.2, x, one).reason
    assert regress(y[:0], x[:0], one[:0]).reason == "no models"


def test_a_slope_of_rounding_size_is_none():
    """A slope of 1e-17 that has a sign."""
    y, x = np.array([0.1, 0.5, 0.2, 0.2]), np.arange(4.0)
    assert regress(y, x, np.zeros(4, np.int64)).value == 0
    groups = np.array([0.1, 0.1, 0.3, 0.1, 0.2, 0.2])
    assert hedges(groups, np.repeat([1.0, 0.0], 3), np.zeros(6, np.int64)) == 0


def test_as_many_degrees_of_freedom_as_are_needed():
    """A limit that asks for one model more than it says."""
    y, x, one = _models(5, 0.1)
    assert regress(y, x, one, least_df=3).p is not None
    assert regress(y, x, one, least_df=4).p is None
    assert regress(y[:3], x[:3], one[:3]).df == 1
    assert hedges(np.array([0.1, 0.2, 0.4]), np.array([1.0, 0, 0]), one[:3]) is not None


def test_two_clusters_a_side_are_enough():
    """A side asked for more clusters than it says, or a trend for sides that it does not have."""
    y, clusters = np.array([0.1, 0.15, 0.2, 0.4, 0.3, 0.5, 0.2, 0.3]), np.repeat(np.arange(4), 2)
    assert regress(y, np.repeat([1.0, 0.0], 4), np.zeros(8, np.int64), clusters=clusters).p is not None
    three = np.array([1.0, 1, 2, 2, 3, 3])
    assert regress(y[:6], three, np.zeros(6, np.int64), clusters=clusters[:6]).p is not None


def test_detectable_is_what_a_simulation_finds():
    """A power statement that promises too much; few degrees of freedom are where libraries lose it."""
    rng = np.random.default_rng(0)
    for df, alpha in ((2, 0.0125), (4, 0.05)):
        effect = detectable(1.0, df, alpha)
        statistic = (rng.normal(size=200_000) + effect) / np.sqrt(rng.chisquare(df, 200_000) / df)
        found = np.mean(np.abs(statistic) > t.isf(alpha / 2, df))
        assert found == pytest.approx(0.8, abs=0.01)
    textbook = TTestIndPower().solve_power(nobs1=10, alpha=0.05, power=0.8)
    assert detectable(np.sqrt(2 / 10), 18, 0.05) == pytest.approx(textbook, rel=1e-3)


def test_hedges_of_two_groups():
    """A standardised effect by the spread over all models, the difference itself included."""
    y, x = np.array([5.0, 6, 7, 1, 2, 3]), np.repeat([1.0, 0.0], 3)
    assert hedges(y, x, np.zeros(6, np.int64)) == pytest.approx(4 / 1 * (1 - 3 / 15))
    assert hedges(np.array([1.0, 1, 0, 0]), np.array([1.0, 1, 0, 0]), np.zeros(4, np.int64)) is None
