"""A study's rows as the page reads them: cells, what each was measured on, and which checkpoints belong together.

Numbers that are not finite are missing here, as in JSON. Non-goals: reading files, statistics, and words.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from exitbench.study.results import cell_key
from exitbench.study.rows import LEVEL_TAG, Row

__all__ = ["Cell", "Context", "cells_of", "finite", "last_checkpoints", "training_of"]

Context = tuple[str | int | None, ...]
"""What two figures must share to stand in one chart: workload, side, readout, and how much of it was measured."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """All rows of one cell, by figure."""

    first: Row
    """For its identity and factors."""
    origins: dict[str, Row] = field(default_factory=dict)
    """A row of each figure, of policies a row of each one: they may come from several studies."""
    failure: str | None = None
    """Why there are no figures."""
    plain: dict[str, Row] = field(default_factory=dict)
    """Figures that have no place on an axis and no variant."""
    by_depth: dict[str, dict[int, float]] = field(default_factory=dict)
    """figure -> depth -> value"""
    by_pair: dict[str, dict[tuple[int, int], float]] = field(default_factory=dict)
    """figure -> (smaller depth, larger depth) -> value"""
    twins: list[float] = field(default_factory=list)
    """EES of untrained models of the same shape, one a seed."""
    batch: dict[float, float] = field(default_factory=dict)
    """rows decoded in lockstep -> share of the blocks' work left to skip"""
    policies: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    """(policy with its probes, what it was held to) -> figure -> value"""

    @property
    def context(self) -> Context:
        """See `Context`. Not dtype or attention: those may follow from the model."""
        row = self.first
        return (row.workload, row.on, row.readout, row.limit, row.document_tokens, row.max_new_tokens)

    @property
    def workload(self) -> str:
        """The workload, and which side of it was measured."""
        return self.first.workload if self.first.on is None else f"{self.first.workload}, on {self.first.on}"

    @property
    def is_checkpoint(self) -> bool:
        """Whether it is known when in training this was."""
        return self.first.step is not None or self.first.tokens_seen is not None

    @property
    def level(self) -> str:
        """Of confidence, e.g. "at 98.75 %"; empty for the 95 % that intervals have if nothing else is said."""
        level = self.first.tags.get(LEVEL_TAG)
        return "" if level is None else f"at {level}"

    def value(self, figure: str) -> float | None:
        """The value of a plain figure, if it has one."""
        row = self.plain.get(figure)
        return None if row is None else finite(row.value)

    @property
    def final_loss(self) -> float | None:
        """Loss of the model itself, in nats a token."""
        return self.by_depth.get("loss", {}).get(self.first.num_blocks or -1)


def finite(value: float | None) -> float | None:
    """The number, or None for one that is none."""
    return value if value is not None and math.isfinite(value) else None


def cells_of(rows: Iterable[Row]) -> list[Cell]:
    """The cells that rows belong to: by family and size, then model, then what it was measured on, then training.

    Rows of several studies may be of one cell under several ids. A failure in one of them is a cell of its own.
    """
    together: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        together[row.status == "failed", *cell_key(row)].append(row)
    return sorted(map(_cell, together.values()), key=_place)


def _cell(rows: Sequence[Row]) -> Cell:
    if failed := next((row for row in rows if row.status == "failed"), None):
        return Cell(first=failed, failure=failed.reason or "no reason was recorded")
    cell = Cell(first=rows[0])
    for row in rows:
        cell.origins.setdefault(row.figure if row.target is None else str(row.variant), row)
        if row.figure == "ees_untrained" and row.variant is not None:
            if (twin := finite(row.value)) is not None:
                cell.twins.append(twin)
        elif row.variant is not None and row.target is not None:
            if (value := finite(row.value)) is not None:
                cell.policies.setdefault((row.variant, row.target), {})[row.figure] = value
        elif row.figure == "batch" and row.at is not None:
            if (value := finite(row.value)) is not None:
                cell.batch[row.at] = value
        elif row.variant is not None or row.target is not None or row.at is not None:
            continue
        elif row.depth is None:
            cell.plain[row.figure] = row
        elif (value := finite(row.value)) is None:
            continue
        elif row.other_depth is None:
            cell.by_depth.setdefault(row.figure, {})[row.depth] = value
        else:
            pair = (min(row.depth, row.other_depth), max(row.depth, row.other_depth))
            cell.by_pair.setdefault(row.figure, {})[pair] = value
    return cell


def _place(cell: Cell) -> tuple[object, ...]:
    row = cell.first
    return (
        row.family or row.model,
        row.active_params_b or 0.0,
        row.model,
        *map(str, cell.context),
        row.step if row.step is not None else math.inf,
        row.tokens_seen if row.tokens_seen is not None else math.inf,
        row.revision or "",
    )


def training_of(cells: Iterable[Cell]) -> dict[tuple[str, Context], list[Cell]]:
    """Checkpoints of one model on one thing, in the order of training; only where there are two or more."""
    series: dict[tuple[str, Context], list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.failure is None and cell.is_checkpoint:
            series[cell.first.model, cell.context].append(cell)
    return {key: sorted(found, key=_place) for key, found in series.items() if len(found) > 1}


def last_checkpoints(cells: Sequence[Cell]) -> list[Cell]:
    """Each model as it ended: of checkpoints the last one, and every revision of which no step is known."""
    ended: dict[tuple[str, Context], Cell] = {}
    for cell in (c for c in cells if c.failure is None and c.is_checkpoint):
        key = (cell.first.model, cell.context)
        if key not in ended or _place(ended[key]) <= _place(cell):
            ended[key] = cell
    kept = {id(cell) for cell in ended.values()}
    return [c for c in cells if c.failure is None and (id(c) in kept or not c.is_checkpoint)]
