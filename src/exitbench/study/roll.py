"""Which models of a study a finding is judged on, and why the others are not.

Models are left out by what was fixed beforehand and by what is missing, never by their figures. The finding stays
undecided for one that falls short of a requirement (an untrained one, say), and for one that would be compared but
failed or was not measured yet: what is not there may decide it.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal, get_args

from exitbench.study.finding import JudgedModel
from exitbench.study.finding_spec import TAG, FigureRef, FindingSpec, GroupSpec, KindsSpec, TrendSpec
from exitbench.study.planned import Plan
from exitbench.study.rows import Row
from exitbench.study.units import Judged, Unit, expand, judged_rows, units

__all__ = ["Roll", "call_roll", "falls_short"]

_SETTINGS = (
    *("dtype", "attention", "device", "chat_template", "max_new_tokens", "document_tokens", "limit", "seed"),
    "libraries",
)
_NAMED = 6
"""Models that a sentence names before it only counts."""
_Kind = Literal["taking part", "elsewhere", "waiting", "failed", "lacking", "short"]
_ByKind = Mapping[_Kind, Sequence[tuple[Unit, str | None]]]


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
    to_come = {row.cell for row in waiting}
    there = [(unit, *_place(unit, spec, to_come)) for unit in units(kept)]
    by_kind: dict[_Kind, list[tuple[Unit, str | None]]] = {kind: [] for kind in get_args(_Kind)}
    for unit, kind, why in there:
        by_kind[kind].append((unit, why))
    taking_part, lacking = (tuple(unit for unit, _ in by_kind[kind]) for kind in ("taking part", "lacking"))
    return Roll(
        judged=judged,
        taking_part=taking_part,
        lacking=lacking,
        models=[_judged_model(unit, spec, why, falls_short=kind == "short") for unit, kind, why in there],
        hindrances=list(_hindrances(by_kind, len(there))),
        cautions=[*_of_plan(plan, taking_part), *_unmeasured(by_kind, len(there)), *_cautions(spec, taking_part)],
    )


def _place(unit: Unit, spec: FindingSpec, to_come: Set[str]) -> tuple[_Kind, str | None]:
    """What is made of a model, and why it takes no part."""
    unknown = list(_unknown(unit, spec))
    if why := _not_compared(unit, spec) or next((why for name, why in unknown if name.startswith(TAG)), None):
        return "elsewhere", why
    if unit.failure is not None:
        return "waiting" if any(row.cell in to_come for row in unit.rows) else "failed", unit.failure
    for _, why in unknown:
        return "elsewhere", why
    if why := _without_figure(unit, spec):
        return "lacking", why
    why = falls_short(unit, spec)
    return "taking part" if why is None else "short", why


def _hindrances(by_kind: _ByKind, count: int) -> Iterator[str]:
    if waiting := by_kind["waiting"]:
        yield f"{_of(waiting, count)} not measured yet: {_named(waiting)}; run 'exitbench study' to the end"
    if failed := by_kind["failed"]:
        yield f"{len(failed)} of {count} models failed: {_named(failed)}; 'exitbench study --retry-failed' tries again"
    if short := by_kind["short"]:
        yield f"left out: {'; '.join(f'{unit.label} ({why})' for unit, why in short)}"


def _unmeasured(by_kind: _ByKind, count: int) -> Iterator[str]:
    """Models whose failure hinders nothing."""
    if failed := [(unit, why) for unit, why in by_kind["elsewhere"] if unit.failure is not None]:
        yield f"{_of(failed, count, past=True)} not measured: {_named(failed)}."


def _of(models: Sequence[object], count: int, *, past: bool = False) -> str:
    """E.g. "1 of 4 models is"."""
    one, many = ("was", "were") if past else ("is", "are")
    return f"{len(models)} of {count} models {one if len(models) == 1 else many}"


def _named(models: Sequence[tuple[Unit, str | None]]) -> str:
    more = len(models) - _NAMED
    return ", ".join(unit.label for unit, _ in models[:_NAMED]) + (f" and {more} more" if more > 0 else "")


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


def _unknown(unit: Unit, spec: FindingSpec) -> Iterator[tuple[str, str]]:
    """What is not known of a model that decides with which ones it is compared, and so that it is with none."""
    if unit.text(spec.factor) is None:
        yield spec.factor, f"{spec.factor} is not known"
    if isinstance(spec, GroupSpec) and spec.pair is not None and unit.pair(spec) is None:
        yield spec.pair, unit.no_pair(spec)
    if spec.within is not None and unit.stratum(spec.within) is None:
        yield spec.within.factor, f"{spec.within.factor} is not known"


def _without_figure(unit: Unit, spec: FindingSpec) -> str | None:
    why = unit.why_missing(spec.primary)
    return None if why is None else f"no {spec.primary.text}: {why}"


def falls_short(unit: Unit, spec: FindingSpec) -> str | None:
    """Which requirement a model does not meet."""
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
    added = [unit.label for unit in taking_part if any(late.get(row.cell) for row in unit.rows)]
    cautions = [f"Planned only when there were results already: {', '.join(added)}."] if added else []
    if any(late.get(row.cell) is None for unit in taking_part for row in unit.rows):
        cautions.append(f"It is not known which models were planned before there were results: {unknown}")
    return cautions


def _cautions(spec: FindingSpec, taking_part: Sequence[Unit]) -> list[str]:
    cautions = []
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
