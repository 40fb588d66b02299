"""Whether two groups of models differ in a figure, all together or within strata.

The effect is the difference of means; of several strata, their differences weighted as least squares does, by
n1 n2 / (n1 + n2). Pairs are strata with one of each, and the effect is then the mean difference of a pair. Two tests:
labels exchanged within strata (of pairs: signs flipped), and Student's (Welch's of groups in one stratum, the paired
one of pairs, and otherwise least squares with an intercept a stratum).

Letters: N models, A arrangements.
"""

import numpy as np
from numpy.typing import NDArray

from exitbench.stats.arrange import permutation_p
from exitbench.stats.evidence import Evidence, by_t
from exitbench.stats.regression import regress
from exitbench.stats.rounding import ROUNDING, settled

__all__ = ["comparable", "permuted_difference", "student_difference"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def comparable(x: Floats, strata: Ints) -> NDArray[np.bool_]:
    """(N,) which models have one in their stratum that differs from them in `x` (N,): a group, a place on an axis."""
    mixed = [stratum for stratum in np.unique(strata) if len(np.unique(x[strata == stratum])) > 1]
    return np.isin(strata, mixed)


def permuted_difference(y: Floats, x: Floats, strata: Ints, *, seed: int = 0) -> Evidence:
    """Test a difference by exchanging labels within strata.

    Args:
        y: (N,) figures.
        x: (N,) 1 for the reference, 0 for the other group; both in every stratum.
        strata: (N,) within which models are compared.
        seed: of the arrangements, where there are too many to go through.

    Returns:
        The interval is that of `student_difference`.
    """
    rests_on = "models of one stratum being exchangeable if the groups do not differ"
    if len(y) == 0:
        reason = "no models of both groups to compare"
        return Evidence(test="permutation", rests_on=rests_on, reason=reason)
    share = np.array([x[strata == stratum].mean() for stratum in strata])  # the same in every arrangement
    weight = np.sum((x - share) ** 2)

    size = float(np.max(np.abs(y)))

    def effect(labels: Floats) -> Floats:
        return settled((labels - share) @ y / weight, size)

    permuted = permutation_p(x, strata, effect, rounding=ROUNDING * size, seed=seed)
    student = student_difference(y, x, strata)
    return Evidence(
        test="permutation",
        value=float(effect(x[None])[0]),
        low=student.low,
        high=student.high,
        no_interval=student.reason,
        rests_on=rests_on,
        **vars(permuted),
    )


def student_difference(y: Floats, x: Floats, strata: Ints) -> Evidence:
    """Test a difference against the spread within groups and strata; arguments as of `permuted_difference`."""
    if len(np.unique(strata)) > 1:
        return regress(y, x, strata)
    groups = y[x == 1], y[x == 0]
    rests_on = "normal figures in either group, independent between models"
    if min(map(len, groups)) < 2:
        reason = f"groups of {len(groups[0])} and {len(groups[1])} models; 2 in each are needed to see a spread"
        return Evidence(test="t", rests_on=rests_on, reason=reason)
    size = float(np.max(np.abs(y)))
    if not max(map(np.ptp, groups)) > ROUNDING * size:
        reason = "models of one group do not differ, so there is no error to set the difference against"
        return Evidence(test="t", rests_on=rests_on, reason=reason)
    value = float(settled(groups[0].mean() - groups[1].mean(), size))
    errors = np.array([group.var(ddof=1) / len(group) for group in groups])
    se = float(np.sqrt(errors.sum()))
    df = float(
        errors.sum() ** 2 / sum(error**2 / (len(group) - 1) for error, group in zip(errors, groups, strict=True))
    )
    return by_t("t", value, se, df, rests_on)
