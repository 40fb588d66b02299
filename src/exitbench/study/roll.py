"""Which models of a study a finding is judged on, and why the others are not.

Models are left out by what was fixed beforehand and by what is missing, never by their figures. One that falls short
of a requirement (an untrained one, say) is left out too, and then the finding stays undecided.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from exitbench.study.finding import JudgedModel
from exitbench.study.finding_spec import FindingSpec, GroupSpec, KindsSpec, Measure, TrendSpec
from exitbench.study.rows import Row
from exitbench.study.units import Judged, Unit, expand, judged_rows, units

__all__ = ["Roll", "call_roll"]

_SETTINGS = (
    *("dtype", "attention", "device", "chat_template", "max_new_tokens", "document_tokens", "limit", "seed"),
    "libraries",
)


@dataclass(frozen=True, kw_only=True)
class Roll:
    """The models of a finding."""

    judged: Judged
    taking_part: tuple[Unit, ...]
    lacking: tuple[Unit, ...]
    """Models that take no part for want of the primary figure alone."""
    models: list[JudgedModel]
    """All of them, in the order of the rows."""
    falling_short: list[str]
    """Models that do not meet a requirement, with why."""
    cautions: list[str]

    def expand(self, measure: Measure) -> list[Measure]:
        """Every figure that a measure stands for."""
        return expand(measure, self.taking_part)


def call_roll(rows: Sequence[Row], spec: FindingSpec) -> Roll:
    """Choose the models that take part.

    Raises:
        ReportError: rows that do not say which figure is meant.
    """
    judged, kept = judged_rows(rows, Judged(workload=spec.workload, on=spec.on, readout=spec.readout))
    there = units(kept)
    short: list[str] = []
    models, taking_part, lacking = [], [], []
    for unit in there:
        why = _absent(unit, spec)
        if why is None and (why := _without_figure(unit, spec)) is not None:
            lacking.append(unit)
        lacks = None if why is not None else _falls_short(unit, spec)
        if lacks is not None:
            short.append(f"{unit.label} ({lacks})")
        models.append(_judged_model(unit, spec, why or lacks, falls_short=lacks is not None))
        if why is None and lacks is None:
            taking_part.append(unit)
    return Roll(
        judged=judged,
        taking_part=tuple(taking_part),
        lacking=tuple(lacking),
        models=models,
        falling_short=short,
        cautions=_cautions(spec, there, taking_part),
    )


def _absent(unit: Unit, spec: FindingSpec) -> str | None:
    """Why a model cannot take part."""
    if unit.failure is not None:
        return unit.failure
    if unit.text(spec.factor) is None:
        return f"{spec.factor} is not known"
    if isinstance(spec, GroupSpec):
        if unit.text(spec.factor) not in (spec.reference, *spec.against):
            return f"{spec.factor} is {unit.text(spec.factor)}, which is not compared"
        if spec.pair is not None and unit.pair(spec) is None:
            return unit.no_pair(spec)
    elif unit.covariate(spec.factor) is None:
        return f"{spec.factor} is {unit.text(spec.factor)}, no number of this axis"
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
