"""Whether a figure rises or falls along an axis, over few models, within strata.

The Theil-Sen slope is the median over the slopes of all pairs, here of pairs of one stratum, so that no model far out
decides it; its interval is Sen's (Journal of the American Statistical Association 63, 1968), with the variance summed
over strata (Hirsch, Slack and Smith, Water Resources Research 18, 1982). Of one stratum both are
`scipy.stats.theilslopes`, which knows no strata (nor ties on both sides at once). The interval holds the slopes that
Kendall's S does not reject at 5 %. Where models have so few arrangements that it can reject none, there is no interval:
all slopes of four models, from the smallest to the largest, hold the true one in 92 % of cases. The p-value is that of
S too; the median slope itself hardly tells one order from another where places are few.

Letters: N models, P pairs, A arrangements.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from exitbench.stats.arrange import num_arrangements, permutation_p
from exitbench.stats.evidence import Evidence
from exitbench.stats.rounding import settled

__all__ = ["Trend", "permuted_trend", "theil_sen"]

_LEVEL = 0.95

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Trend:
    """A robust slope."""

    slope: float
    low: float | None
    """Of its 95 % interval."""
    high: float | None
    no_interval: str | None
    """Why there is none."""
    tau: float
    """Kendall's tau-a over the pairs of one stratum that differ on the axis: share that rise less share that fall."""


def theil_sen(y: Floats, x: Floats, strata: Ints) -> Trend | None:
    """Estimate a trend; None where no two models of one stratum differ on the axis.

    Args:
        y: (N,) figures.
        x: (N,) places on the axis.
        strata: (N,) within which pairs are formed.
    """
    first, second = _pairs(x, strata)
    if len(first) == 0:
        return None
    size = float(np.max(np.abs(y)))
    slopes = np.sort(settled(y[second] - y[first], size) / (x[second] - x[first]))
    slope = float(settled(np.median(slopes), size / float(np.ptp(x))))
    tau = float(np.mean(np.sign(slopes)))
    count = num_arrangements(x, strata)
    if 2 / count > 1 - _LEVEL:
        reason = f"{count} arrangements of the models allow no p-value below {2 / count:.2g}; 95 % takes 0.05"
        return Trend(slope=slope, low=None, high=None, no_interval=reason, tau=tau)
    variance = sum(_variance_of_s(y[strata == stratum], x[strata == stratum]) for stratum in np.unique(strata))
    reach = float(norm.ppf((1 + _LEVEL) / 2)) * variance**0.5
    low = slopes[max(round((len(slopes) - reach) / 2) - 1, 0)]
    high = slopes[min(round((len(slopes) + reach) / 2), len(slopes) - 1)]
    return Trend(slope=slope, low=float(low), high=float(high), no_interval=None, tau=tau)


def permuted_trend(y: Floats, x: Floats, strata: Ints, *, seed: int = 0) -> Evidence:
    """Test a trend by exchanging places on the axis within strata; arguments as of `theil_sen`."""
    rests_on = "models of one stratum being exchangeable if there is no trend"
    trend = theil_sen(y, x, strata)
    if trend is None:
        reason = "no two models that are compared differ on the axis"
        return Evidence(test="permutation", rests_on=rests_on, reason=reason)
    first, second = np.nonzero(np.triu(strata[:, None] == strata, k=1))
    rises = np.sign(settled(y[second] - y[first], float(np.max(np.abs(y)))))

    def kendalls_s(labels: Floats) -> Floats:
        return np.sign(labels[:, second] - labels[:, first]) @ rises

    permuted = permutation_p(x, strata, kendalls_s, rounding=0.0, seed=seed)
    return Evidence(
        test="permutation",
        value=trend.slope,
        low=trend.low,
        high=trend.high,
        no_interval=trend.no_interval,
        rests_on=rests_on,
        **vars(permuted),
    )


def _pairs(x: Floats, strata: Ints) -> tuple[Ints, Ints]:
    first, second = np.nonzero(np.triu((strata[:, None] == strata) & (x[:, None] != x), k=1))
    return first, second


def _variance_of_s(y: Floats, x: Floats) -> float:
    """Variance of Kendall's S without a trend, with ties on either side (Kendall, Rank Correlation Methods, 1970)."""
    n = float(len(y))
    tx, ty = (np.unique(values, return_counts=True)[1].astype(np.float64) for values in (x, y))
    plain, of_x, of_y = (float(np.sum(k * (k - 1) * (2 * k + 5))) for k in (np.array([n]), tx, ty))
    pairs = float(np.sum(tx * (tx - 1)) * np.sum(ty * (ty - 1)))
    triples = float(np.sum(tx * (tx - 1) * (tx - 2)) * np.sum(ty * (ty - 1) * (ty - 2)))
    both = pairs / (2 * n * (n - 1)) if pairs else 0.0
    thrice = triples / (9 * n * (n - 1) * (n - 2)) if triples else 0.0
    return max(0.0, (plain - of_x - of_y) / 18 + both + thrice)  # all tied: 0, but for rounding
