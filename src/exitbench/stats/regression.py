"""How a figure goes with one number of each model, others held fixed: least squares, t-tests, and their power.

Strata get intercepts of their own. Models of one cluster (a family that shares its data) may err alike: then errors are
clustered (Liang and Zeger, Biometrika 73, 1986), with the small-sample correction and G - 2 degrees of freedom for G
clusters, since level and slope may both be between clusters (Donald and Lang, Review of Economics and Statistics 89,
2007). With one cluster on a side it sees no error at all; below 3 clusters, or 2 a side, there is no p-value.

Letters: N models, K covariates.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import chi2, norm, t
from statsmodels.regression.linear_model import OLS

from exitbench.stats.evidence import Evidence, TestName, by_t
from exitbench.stats.rounding import ROUNDING, settled

__all__ = ["LEAST_CLUSTERS", "POWER", "detectable", "hedges", "regress"]

LEAST_CLUSTERS = 3
POWER = 0.8
_GRID = 4_000

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def regress(
    y: Floats,
    x: Floats,
    strata: Ints,
    *,
    covariates: Floats | None = None,
    clusters: Ints | None = None,
    least_df: int = 1,
) -> Evidence:
    """Estimate the slope of `y` in `x`.

    Args:
        y: (N,) figures.
        x: (N,) what the slope is in; 0 and 1 for two groups.
        strata: (N,) with an intercept each.
        covariates: (N, K) held fixed.
        clusters: (N,) models that may err alike; independent models if left out.
        least_df: residual degrees of freedom below which there is no p-value.
    """
    test: TestName = "t" if clusters is None else "clustered"
    rests_on = "normal errors of one variance, independent between models"
    if clusters is not None:
        rests_on = f"independence between {len(np.unique(clusters))} clusters, of which there should be many"

    def without(reason: str) -> Evidence:
        return Evidence(test=test, rests_on=rests_on, reason=reason)

    if len(y) == 0:
        return without("no models")
    if clusters is not None and (problem := _too_few_clusters(x, clusters)):
        return without(problem)
    design = _design(x, strata, covariates)
    df = len(y) - design.shape[1]
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return without("what is held fixed leaves nothing to compare")
    if df < least_df:
        return without(f"{len(y)} models for {design.shape[1]} coefficients; {least_df} more than these are needed")
    if clusters is None:
        fit = OLS(y, design).fit()
    else:
        fit = OLS(y, design).fit(cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True)
        df = len(np.unique(clusters)) - 2
    se = float(fit.bse[0])
    size = float(np.max(np.abs(y)) / np.ptp(x))
    if not se > ROUNDING * size:
        return without("the models do not differ beyond it, so there is no error to set it against")
    return by_t(test, float(settled(fit.params[0], size)), se, df, rests_on)


def detectable(se: float, df: float, alpha: float) -> float:
    """The effect that a two-sided t-test would find with 80 % power, at the spread behind `se`.

    By the noncentral t distribution, averaged over a grid: `statsmodels` and `scipy` lose it at few degrees of freedom.

    Args:
        se: standard error of the effect.
        df: degrees of freedom behind it.
        alpha: level of the test.
    """
    critical = float(t.isf(alpha / 2, df))
    spread = np.sqrt(chi2.ppf((np.arange(_GRID) + 0.5) / _GRID, df) / df)  # of the estimated error about the true one

    def surplus(effect: float) -> float:
        found = norm.cdf(effect - critical * spread) + norm.cdf(-effect - critical * spread)
        return float(found.mean()) - POWER

    return se * float(brentq(surplus, 0, 100 * critical))


def hedges(y: Floats, x: Floats, strata: Ints) -> float | None:
    """Hedges' g: a difference in units of the spread within strata and groups, small samples corrected for.

    (Hedges, Journal of Educational Statistics 6, 1981.) None where there is no spread to measure.
    """
    design = _design(x, strata, None)
    df = len(y) - design.shape[1]
    if df < 1:
        return None
    fit = OLS(y, design).fit()
    spread = float(np.sqrt(fit.mse_resid))
    size = float(np.max(np.abs(y)))
    if not spread > ROUNDING * size:
        return None
    return float(settled(fit.params[0], size) / spread * (1 - 3 / (4 * df - 1)))


def _design(x: Floats, strata: Ints, covariates: Floats | None) -> Floats:
    """(N, 1 + strata + K): `x` first, then intercepts, then covariates on a scale of their own."""
    columns = [(x - x.mean())[:, None], (strata[:, None] == np.unique(strata)).astype(np.float64)]
    if covariates is not None:
        columns.append((covariates - covariates.mean(axis=0)) / covariates.std(axis=0))
    return np.concatenate(columns, axis=1)


def _too_few_clusters(x: Floats, clusters: Ints) -> str | None:
    count = len(np.unique(clusters))
    if count < LEAST_CLUSTERS:
        return f"{count} {'cluster' if count == 1 else 'clusters'}, {LEAST_CLUSTERS} are needed"
    sides = [len(np.unique(clusters[x == side])) for side in np.unique(x)]
    if len(sides) == 2 and min(sides) < 2:
        return "one side has a single cluster, 2 are needed"
    return None
