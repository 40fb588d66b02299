"""What a finding compares: models with a label each, within strata, for a trend or a difference.

A contrast is formed from what is known of the models before any figure is looked at; then every figure, the primary
one and those of the sensitivity analysis, is put through the same tests.

Letters: N models.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from exitbench.stats.difference import comparable, permuted_difference, student_difference
from exitbench.stats.evidence import Evidence
from exitbench.stats.regression import hedges, regress
from exitbench.stats.trend import permuted_trend, theil_sen
from exitbench.study.finding_spec import FigureRef, FindingSpec, GroupSpec, SizeSpec, TrendSpec
from exitbench.study.units import MONTH, SIZES, Unit

__all__ = ["LEAST_DF", "Contrast", "Member", "Tested", "adjust", "contrasts", "measured", "missing"]

LEAST_DF = 3
"""Residual degrees of freedom that an estimate with covariates needs."""
_MOST_NAMED = 3
"""Models that a reason names."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Member:
    """One model in a contrast."""

    unit: Unit
    x: float
    """1 in the reference group and 0 in the other, or the place on the axis."""
    stratum: str


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Models to be compared."""

    name: str
    per: str
    """What an effect is per, e.g. " per year"; "" for a difference."""
    shape: Literal["trend", "difference"]
    claimed: Literal["positive", "negative"]
    judged: bool
    sides: tuple[str, str]
    """Names of x = 1 and x = 0, for a difference."""
    members: tuple[Member, ...]
    reason: str | None = None
    """Why there is nothing to compare, where that is known beforehand."""

    @property
    def comparable(self) -> list[Unit]:
        """Those with another to be compared with."""
        kept = comparable(*_arrays(self.members))
        return [member.unit for member, stays in zip(self.members, kept, strict=True) if stays]


@dataclass(frozen=True, kw_only=True)
class Tested:
    """A contrast in one figure."""

    members: tuple[Member, ...]
    """Those with the figure, and with another to be compared with."""
    evidence: tuple[Evidence, ...]
    """By permutation, by a t-test and, where models are clustered, with clustered errors."""
    standardised: float | None

    @property
    def labels(self) -> list[str]:
        """Of the models that took part."""
        return [member.unit.label for member in self.members]


def contrasts(spec: FindingSpec, among: Sequence[Unit]) -> list[Contrast]:
    """Form what a finding compares, of the models that take part in it."""
    if isinstance(spec, GroupSpec):
        return [_difference(spec, other, among) for other in spec.against]
    slope = _slope(spec, among)
    return [slope, _threshold(spec, slope)] if isinstance(spec, SizeSpec) else [slope]


def measured(contrast: Contrast, ref: FigureRef, *, cluster: str | None) -> Tested:
    """Test a contrast in one figure."""
    members, y = _with_values(contrast, ref)
    x, strata = _arrays(members)
    if contrast.shape == "difference":
        tests = [permuted_difference(y, x, strata), student_difference(y, x, strata)]
        standardised = hedges(y, x, strata) if len(y) else None
    else:
        tests = [permuted_trend(y, x, strata), regress(y, x, strata)]
        trend = theil_sen(y, x, strata)
        standardised = None if trend is None else trend.tau
    if cluster is not None:
        tests.append(_clustered(y, x, strata, members, cluster))
    if why := missing(contrast, ref):
        tests = [test.model_copy(update={"reason": why}) for test in tests]
    return Tested(members=members, evidence=tuple(tests), standardised=standardised)


def missing(contrast: Contrast, ref: FigureRef) -> str | None:
    """Say of which models a figure is missing, where that is why there is nothing to compare; None otherwise."""
    units = contrast.comparable
    if not units or _with_values(contrast, ref)[0]:
        return None
    without = {unit.label: why for unit in units if (why := unit.why_missing(ref)) is not None}
    why = next(iter(without.values()))
    if len(without) == len(units):
        return f"no {ref.text} of any of {len(units)} models: {why}"
    named = ", ".join(list(without)[:_MOST_NAMED]) + (", .." if len(without) > _MOST_NAMED else "")
    return f"no {ref.text} of {len(without)} of {len(units)} models ({named}): {why}"


def adjust(
    contrast: Contrast, ref: FigureRef, covariates: Sequence[str], *, cluster: str | None
) -> tuple[Evidence, list[str], int]:
    """Estimate a contrast with covariates held fixed.

    Returns:
        The estimate, the covariates that went in, and the number of models that have them all.
    """
    known = [m for m in contrast.members if all(m.unit.covariate(name) is not None for name in covariates)]
    members, y = _with_values(replace(contrast, members=tuple(known)), ref)
    x, strata = _arrays(members)
    columns = {name: [member.unit.covariate(name) or 0.0 for member in members] for name in covariates}
    varying = [name for name, column in columns.items() if len(set(column)) > 1]
    held = np.array([columns[name] for name in varying], dtype=np.float64).reshape(len(varying), len(members)).T
    codes = None if cluster is None else _codes([member.unit.text(cluster) or member.unit.label for member in members])
    evidence = regress(y, x, strata, covariates=held if varying else None, clusters=codes, least_df=LEAST_DF)
    if not members:
        evidence = evidence.model_copy(
            update={"reason": f"no models to compare of which {', '.join(covariates)} is known"}
        )
    return evidence, varying, len(members)


def _difference(spec: GroupSpec, other: str, among: Sequence[Unit]) -> Contrast:
    members = []
    for unit in among:
        group = unit.text(spec.factor)
        stratum = unit.compared_within(spec)
        if group in (spec.reference, other) and stratum is not None:
            members.append(Member(unit=unit, x=float(group == spec.reference), stratum=stratum))
    return Contrast(
        name=f"{spec.reference} - {other}",
        per="",
        shape="difference",
        claimed="positive" if spec.reference_is == "higher" else "negative",
        judged=True,
        sides=(spec.reference, other),
        members=tuple(members),
    )


def _slope(spec: TrendSpec, among: Sequence[Unit]) -> Contrast:
    members = []
    for unit in among:
        x, stratum = unit.covariate(spec.factor), unit.compared_within(spec)
        if x is not None and stratum is not None:
            members.append(Member(unit=unit, x=x, stratum=stratum))
    in_tens = spec.factor in SIZES
    return Contrast(
        name="slope",
        per=" per year" if spec.factor == MONTH else " per factor of 10" if in_tens else f" per unit of {spec.factor}",
        shape="trend",
        claimed="positive" if spec.trend == "rises" else "negative",
        judged=not isinstance(spec, SizeSpec) or spec.judged_by in ("slope", "both"),
        sides=("", ""),
        members=tuple(members),
    )


def _threshold(spec: SizeSpec, slope: Contrast) -> Contrast:
    at = math.log10(spec.threshold) if spec.factor in SIZES else spec.threshold
    members = tuple(replace(member, x=float(member.x > at)) for member in slope.members)
    sides = (f"above {spec.threshold:g}", f"up to {spec.threshold:g}")
    empty = [side for side, x in zip(sides, (1.0, 0.0), strict=True) if x not in {member.x for member in members}]
    return Contrast(
        name=" - ".join(sides),
        per="",
        shape="difference",
        claimed=slope.claimed,
        judged=spec.judged_by in ("threshold", "both"),
        sides=sides,
        members=members,
        reason=f"no model is {' or '.join(empty)} ({spec.factor})" if empty else None,
    )


def _with_values(contrast: Contrast, ref: FigureRef) -> tuple[tuple[Member, ...], Floats]:
    """The members that have the figure and somebody to be compared with, and their figures (N,)."""
    rows = [(member, member.unit.one_of(ref)) for member in contrast.members]
    found = [(member, row.value) for member, row in rows if row is not None and row.value is not None]
    x, strata = _arrays([member for member, _ in found])
    kept = [pair for pair, stays in zip(found, comparable(x, strata), strict=True) if stays]
    return tuple(member for member, _ in kept), np.array([value for _, value in kept], dtype=np.float64)


def _arrays(members: Sequence[Member]) -> tuple[Floats, Ints]:
    """(N,) labels and (N,) strata as numbers."""
    x = np.array([member.x for member in members], dtype=np.float64)
    return x, _codes([member.stratum for member in members])


def _codes(names: Sequence[str]) -> Ints:
    places = {name: index for index, name in enumerate(dict.fromkeys(names))}
    return np.array([places[name] for name in names], dtype=np.int64)


def _clustered(y: Floats, x: Floats, strata: Ints, members: Sequence[Member], cluster: str) -> Evidence:
    names = [member.unit.text(cluster) for member in members]
    if unknown := [member.unit.label for member, name in zip(members, names, strict=True) if name is None]:
        reason = f"{cluster} of {', '.join(unknown)} is not known; give it as a fact, or 'cluster: null'"
        return Evidence(test="clustered", rests_on=f"independence between values of {cluster}", reason=reason)
    return regress(y, x, strata, clusters=_codes([name or "" for name in names]))
