"""Which models of a study a finding is judged on, and why the others are not.

Models are left out by what was fixed beforehand and by what is missing, never by their figures. The finding stays
undecided for one that falls short of a requirement (an untrained one, say), and for one that would be compared but
failed or was not measured yet: what is not there may decide it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from exitbench.study.finding import JudgedModel
from exitbench.study.finding_spec import FigureRef, FindingSpec, GroupSpec, KindsSpec, TrendSpec
from exitbench.study.planned import Plan
from exitbench.study.rows import Row
from exitbench.study.units import Judged, Unit, expand, judged_rows, units

__all__ = ["Roll", "call_roll"]

_SETTINGS = (
    *("dtype", "attention", "device", "chat_template", "max_new_tokens", "document_tokens", "limit", "seed"),
    "libraries",
)
_NAMED = 6
"""Models that a sentence names before it only counts."""


@dataclass(frozen=True, kw_only=True)
class Roll:
    """The models of a finding."""

    judged: Judged
    taking_part: tuple[Unit, ...]
    lacking: tuple[Unit, ...]
    """Models that take no part for want of the primary figure alone."""
    models: list[JudgedModel]
    """All of them, in the order of the rows."""
    hindrances: list[str]
    """Why nothing can be decided, whatever the figures are."""
    cautions: list[str]

    def expand(self, ref: FigureRef) -> list[FigureRef]:
        """Every figure that `ref` stands for."""
        return expand(ref, self.taking_part)


def call_roll(rows: Sequence[Row], spec: FindingSpec, plan: Plan | None) -> Roll:
    """Choose the models that take part.

    Args:
        rows: of a study.
        spec: of the finding.
        plan: of the study, if it left one.

    Raises:
        ReportError: rows that do not say which figure is meant.
    """
    waiting = [] if plan is None else plan.waiting(rows)
    wanted = Judged(workload=spec.workload, on=spec.on, readout=spec.readout)
    judged, kept = judged_rows([*rows, *waiting], wanted)
    there = units(kept)
    to_come = {row.cell for row in waiting}
    models, taking_part, lacking = [], [], []
    unmeasured: list[str] = []
    failed: list[str] = []
    short: list[str] = []
    for unit in there:
        why = _not_compared(unit, spec)
        if why is None and unit.failure is not None:
            why = unit.failure
            (unmeasured if unit.rows[0].cell in to_come else failed).append(unit.label)
        why = why or _incomparable(unit, spec)
        if why is None and (why := _without_figure(unit, spec)) is not None:
            lacking.append(unit)
        lacks = None if why is not None else _falls_short(unit, spec)
        if lacks is not None:
            short.append(f"{unit.label} ({lacks})")
        models.append(_judged_model(unit, spec, why or lacks, falls_short=lacks is not None))
        if why is None and lacks is None:
            taking_part.append(unit)
    of = f"of {len(there)} models"
    hindrances = []
    if unmeasured:
        to_do = f"{len(unmeasured)} {of} are not measured yet: {_named(unmeasured)}"
        hindrances.append(f"{to_do}; run 'exitbench study' to the end")
    if failed:
        hindrances.append(f"{len(failed)} {of} failed: {_named(failed)}; 'exitbench study --retry-failed' tries again")
    if short:
        hindrances.append(f"left out: {'; '.join(short)}")
    return Roll(
        judged=judged,
        taking_part=tuple(taking_part),
        lacking=tuple(lacking),
        models=models,
        hindrances=hindrances,
        cautions=[*_of_plan(plan, taking_part), *_cautions(spec, there, taking_part)],
    )


def _named(labels: Sequence[str]) -> str:
    more = len(labels) - _NAMED
    return ", ".join(labels[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _not_compared(unit: Unit, spec: FindingSpec) -> str | None:
    """Why a model, as far as it is known, is none of those that the finding compares."""
    if (place := unit.text(spec.factor)) is None:
        return None
    if isinstance(spec, GroupSpec):
        if place not in (spec.reference, *spec.against):
            return f"{spec.factor} is {place}, which is not compared"
    elif unit.covariate(spec.factor) is None:
        return f"{spec.factor} is {place}, no number of this axis"
    return None


def _incomparable(unit: Unit, spec: FindingSpec) -> str | None:
    """Why a model that was measured cannot take part."""
    if unit.text(spec.factor) is None:
        return f"{spec.factor} is not known"
    if isinstance(spec, GroupSpec) and spec.pair is not None and unit.pair(spec) is None:
        return unit.no_pair(spec)
    if unit.stratum(spec.within) is None:
        return f"{spec.within.factor if spec.within else ''} is not known"
    return None


def _without_figure(unit: Unit, spec: FindingSpec) -> str | None:
    row = unit.one_of(spec.primary)
    if row is None or row.value is None:
        return f"no {spec.primary.text}: {'no such row' if row is None else row.reason or 'no reason given'}"
    return None


def _falls_short(unit: Unit, spec: FindingSpec) -> str | None:
    for needed in spec.require:
        number = unit.number(needed.factor)
        if number is None:
            return f"{needed.factor} is not known, {needed.at_least:g} is required"
        if number < needed.at_least:
            return f"{needed.otherwise}: {needed.factor} is {number:g}, {needed.at_least:g} is required"
    return None


def _judged_model(unit: Unit, spec: FindingSpec, left_out: str | None, *, falls_short: bool) -> JudgedModel:
    row = None if unit.failure is not None else unit.one_of(spec.primary)
    first = unit.rows[0]
    return JudgedModel(
        label=unit.label,
        revision=first.revision,
        step=first.step,
        place=unit.text(spec.factor),
        stratum=unit.compared_within(spec) or None,
        cluster=None if spec.cluster is None else unit.text(spec.cluster),
        value=None if row is None else row.value,
        low=None if row is None else row.low,
        high=None if row is None else row.high,
        n_tokens=None if row is None else row.n_tokens,
        n_prompts=None if row is None else row.n_prompts,
        facts={name: unit.fact(name) for name in ("total_params_b", "active_params_b")}
        | {name: unit.known(name) for name in spec.covariates if unit.failure is None},
        left_out=left_out,
        falls_short=falls_short,
    )


def _of_plan(plan: Plan | None, taking_part: Sequence[Unit]) -> list[str]:
    """What the plan says of when the models were chosen."""
    unknown = "the folder was begun by an exitbench that did not note it."
    if plan is None:
        return [f"It is not known whether all that was planned was measured: {unknown}"]
    late = {planned.row.cell: planned.late for planned in plan.cells}
    added = [unit.label for unit in taking_part if late.get(unit.rows[0].cell)]
    cautions = [f"Planned only when there were results already: {', '.join(added)}."] if added else []
    if any(late.get(unit.rows[0].cell) is None for unit in taking_part):
        cautions.append(f"It is not known which models were planned before there were results: {unknown}")
    return cautions


def _cautions(spec: FindingSpec, there: Sequence[Unit], taking_part: Sequence[Unit]) -> list[str]:
    cautions = []
    if failed := [unit.label for unit in there if unit.failure is not None]:
        cautions.append(f"{len(failed)} of {len(there)} models were not measured: {', '.join(failed)}.")
    for name in _SETTINGS:
        values = sorted(
            {str(row_value) for unit in taking_part if (row_value := getattr(unit.rows[0], name)) is not None}
        )
        if len(values) > 1:
            cautions.append(f"Models were measured with different {name}: {'; '.join(values)}.")
    if spec.cluster is None:
        cautions.append("Models are taken to be independent of one another, as separately trained ones are.")
    if isinstance(spec, KindsSpec) and spec.within is None and spec.pair is None:
        cautions.append("Kinds are compared at whatever active size they have, not at a matched one.")
    if isinstance(spec, TrendSpec) and spec.within is None and spec.factor != "total_params_b":
        cautions.append("Models of every size are compared with one another, not within bands of size.")
    return cautions
