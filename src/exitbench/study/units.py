"""The models of a study as a finding sees them: one unit each, with its figures and what is known of it.

Of a model with several checkpoints the last one is judged. Rows are those of one workload, way of counting and readout;
where a study has several, the finding must say which.

Non-goals: comparing.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from exitbench.errors import ReportError
from exitbench.models.catalogue import ModelFacts, catalogue
from exitbench.plain import plain
from exitbench.study.finding_spec import CATALOGUE, TAG, FigureRef, GroupSpec, TrendSpec, Within, is_factor
from exitbench.study.results import IDENTITY
from exitbench.study.rows import Row

__all__ = ["MONTH", "SIZES", "Judged", "Unit", "expand", "judged_rows", "units"]

MONTH = "release_month"
SIZES = ("total_params_b", "active_params_b", "hidden_size", "vocab_size", "tokens_seen")
"""Factors that are taken as logarithms to base 10."""
_OF_WORKLOAD = ("workload", "chat_template", "max_new_tokens", "document_tokens", "limit")
"""Columns that a workload of a study sets for itself."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What all rows of a finding are of; None where no row says."""

    workload: str | None
    on: str | None
    readout: str | None


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One model, at its last checkpoint."""

    label: str
    rows: tuple[Row, ...]
    """Without figures by depth; never empty."""

    @property
    def failure(self) -> str | None:
        """Why it could not be measured."""
        failed = next((row for row in self.rows if row.status == "failed"), None)
        return None if failed is None else f"not measured: {failed.reason or 'no reason given'}"

    def all_of(self, ref: FigureRef) -> list[Row]:
        """The rows that are of `ref`."""
        return [row for row in self.rows if _fits(row, ref)]

    def one_of(self, ref: FigureRef) -> Row | None:
        """The row of `ref`.

        Raises:
            ReportError: there are several.
        """
        found = self.all_of(ref)
        if len(found) > 1:
            several = ", ".join(dict.fromkeys(plain(_exact(row).text) for row in found))
            raise ReportError(
                f"finding: {ref.text} of {plain(self.label)} stands for {several}; "
                "give one of them, as {figure: .., variant: .., target: .., at: ..}"
            )
        return found[0] if found else None

    def why_missing(self, ref: FigureRef) -> str | None:
        """Why it has no value of `ref`; None where it has one."""
        row = self.one_of(ref)
        if row is None:
            return "no such row"
        return None if row.value is not None else row.reason or "no reason given"

    def fact(self, name: str) -> str | float | bool | None:
        """A column or a tag, as the rows have it."""
        row = self.rows[0]
        if name.startswith(TAG):
            return row.tags.get(name.removeprefix(TAG))
        value: str | float | bool | None = getattr(row, name)
        return value

    def text(self, name: str) -> str | None:
        """A column or a tag as a name of a group, alike however YAML wrote it."""
        value = self.fact(name)
        return None if value is None else str(value).lower() if isinstance(value, bool) else str(value)

    def known(self, name: str) -> str | float | bool | None:
        """A factor or a figure, as the rows have it."""
        if is_factor(name):
            return self.fact(name)
        row = self.one_of(FigureRef(figure=name))
        return None if row is None else row.value

    def number(self, name: str) -> float | None:
        """A factor or a figure as a number: months in years, truth as 0 or 1; None where it is none."""
        value = self.known(name)
        if value is None:
            return None
        if name == MONTH:
            year, _, month = str(value).partition("-")
            return int(year) + (int(month) - 0.5) / 12 if year.isdigit() and month.isdigit() else None
        try:
            number = float(value)
        except ValueError:
            return None
        return number if math.isfinite(number) else None

    def covariate(self, name: str) -> float | None:
        """A factor or a figure as it goes into a regression: sizes as logarithms."""
        number = self.number(name)
        if number is None or name not in SIZES:
            return number
        return math.log10(number) if number > 0 else None

    def stratum(self, within: Within | None) -> str | None:
        """What it is compared within, as a name; None where that is not known."""
        if within is None:
            return ""
        if not within.edges:
            return self.text(within.factor)
        number = self.number(within.factor)
        if number is None:
            return None
        edges = [-math.inf, *within.edges, math.inf]
        low, high = next((a, b) for a, b in pairwise(edges) if a <= number < b)
        return f"{within.factor} {low:g} to {high:g}"

    def compared_within(self, spec: GroupSpec | TrendSpec) -> str | None:
        """Its pair or stratum, as a name; "" where all are compared, None where it is not known."""
        if isinstance(spec, GroupSpec) and spec.pair is not None:
            return self.pair(spec)
        return self.stratum(spec.within)

    def pair(self, spec: GroupSpec) -> str | None:
        """The pair it is part of, as a name; None where that is not known."""
        assert spec.pair is not None
        if spec.pair != CATALOGUE:
            return self.text(spec.pair)
        listed = self._listed
        if self.text(spec.factor) != spec.reference:
            listed = None if listed is None or listed.base is None else catalogue().find(listed.base)
        return None if listed is None else listed.hub_id

    def no_pair(self, spec: GroupSpec) -> str:
        """Why its pair is not known, and what to do."""
        if spec.pair != CATALOGUE:
            return f"its pair is not known ({spec.pair})"
        lacks = f"has no {self.rows[0].source}" if self._listed is None else f"knows no base of {self.label}"
        return f"its pair is not known: the catalogue {lacks}; give both of a pair one tag, and say 'pair: tags.NAME'"

    @property
    def _listed(self) -> ModelFacts | None:
        """The catalogue's entry of its weights."""
        from exitbench.models.source import SHORT_NAMES  # which imports torch, as reading results must not

        source = self.rows[0].source
        return catalogue().find(SHORT_NAMES[source].hub_id if source in SHORT_NAMES else source)


def judged_rows(rows: Sequence[Row], wanted: Judged) -> tuple[Judged, list[Row]]:
    """Choose the rows of one workload, way of counting and readout.

    Args:
        rows: of a study.
        wanted: as the finding says; what it leaves open must be the same in all rows.

    Raises:
        ReportError: there are several, or none.
    """
    chosen, kept = {}, list(rows)
    for name in ("workload", "on", "readout"):
        want = getattr(wanted, name)
        there = sorted({value for row in kept if (value := getattr(row, name)) is not None})
        if want is None and len(there) > 1:
            raise ReportError(
                f"finding: rows are of {name} {_list(there)}; say '{name}: {plain(there[0])}', or another"
            )
        if want is not None and want not in there:
            raise ReportError(f"finding: no rows of {name} {plain(want)}, only of {_list(there) or 'none'}")
        chosen[name] = there[0] if want is None and there else want
        kept = [row for row in kept if getattr(row, name) in (chosen[name], None)]
    return Judged(**chosen), kept


def units(rows: Iterable[Row]) -> list[Unit]:
    """Group rows by model and keep each one's last checkpoint, which is the one without a step where there is one.

    Args:
        rows: of one workload, way of counting and readout.

    Raises:
        ReportError: a model that was measured in two ways, or models on texts that differ.
    """
    by_label: dict[str, list[Row]] = {}
    texts: dict[str, str] = {}
    for row in rows:
        if row.depth is None:
            by_label.setdefault(row.model, []).append(row)
        if row.workload_sha256 is not None:
            texts.setdefault(row.workload_sha256, row.model)
    if len(texts) > 1:
        first, second, *_ = map(plain, texts.values())
        raise ReportError(
            f"finding: {first} and {second} read other texts under one name; measure both on one workload"
        )
    found = []
    for label, its_rows in by_label.items():
        steps = [math.inf if row.step is None else row.step for row in its_rows]
        last = tuple(row for row, step in zip(its_rows, steps, strict=True) if step == max(steps))
        for name in IDENTITY:
            ways = sorted({plain(str(value)) for row in last if (value := getattr(row, name)) is not None})
            if len(ways) > 1:
                mend = "judge one study at a time, or give the models labels of their own"
                if name in _OF_WORKLOAD:
                    mend = "keep one of these workloads in a study with a finding"
                raise ReportError(f"finding: {plain(label)} is measured with {name} {' and '.join(ways)}; {mend}")
        found.append(Unit(label=label, rows=last))
    return found


def expand(ref: FigureRef, among: Sequence[Unit]) -> list[FigureRef]:
    """Every figure that `ref` with open fields stands for among some models; itself where there is none."""
    found = {_exact(row): None for unit in among for row in unit.all_of(ref)}
    return sorted(
        found, key=lambda exact: (exact.figure, exact.variant or "", exact.target or "", exact.at or 0.0)
    ) or [ref]


def _exact(row: Row) -> FigureRef:
    return FigureRef(figure=row.figure, variant=row.variant, target=row.target, at=row.at)


def _fits(row: Row, ref: FigureRef) -> bool:
    open_fields = ("variant", "target", "at")
    return row.figure == ref.figure and all(getattr(ref, name) in (None, getattr(row, name)) for name in open_fields)


def _list(names: Sequence[str]) -> str:
    return ", ".join(map(plain, names))
