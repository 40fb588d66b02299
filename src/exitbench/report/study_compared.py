"""The part that pages of studies and pages of single results share: every cell in a table, and the models compared.

The table, its filters and the charts are of the same cells, so that a filter narrows all of them. Charts for which
there are no numbers are left out. Non-goals: training, findings, and what a page says of one result alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from exitbench.report import study_charts
from exitbench.report.chart_parts import Chart, finished
from exitbench.report.study_across import Axis, axes_of
from exitbench.report.study_cells import Cell
from exitbench.report.study_charts import ROWS
from exitbench.report.study_origin import FILTERS, in_order, levels_of
from exitbench.report.study_payload import Payload, payload_of
from exitbench.report.study_table import TableRow, headings, table_rows

__all__ = ["Compared", "Drawn", "compared"]

_ROW = 450
"""Height of a chart with its words, roughly."""
_MOST_ROWS = 4
_FEW_MODELS = 60
"""Up to so many, each has a line of text to itself."""
_SAVINGS = (
    "blocks skipped",
    "FLOPs, net of probes and of states copied",
    "bytes, net of probes and of states deferred",
)
"""What a policy saves, in the order of the payload."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A chart with the choices that stand over it."""

    key: str
    chart: Chart
    choices: tuple[str, ...] = ()
    """Names of the choices that this chart alone follows."""

    @property
    def rows(self) -> int:
        """How many of the others it is as high as."""
        return min(_MOST_ROWS, round(float(self.chart.spec["height"]) / _ROW))


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The shared part as templates read it."""

    headings: tuple[str, ...]
    rows: list[TableRow]
    filters: dict[str, list[str]]
    """What cells can be narrowed by: only what tells them apart."""
    payload: Payload
    axes: Sequence[Axis]
    charts: list[Drawn]

    filter_names = FILTERS
    savings = _SAVINGS

    @property
    def has_checkpoints(self) -> bool:
        """Whether any cell is of a checkpoint or a revision."""
        return any(row.checkpoint for row in self.rows)

    @property
    def data(self) -> dict[str, Any]:
        """What study.js reads."""
        return self.payload.to_json() | {"axes": {axis.name: axis.x.to_dict() for axis in self.axes}}


def compared(cells: Sequence[Cell]) -> Compared:
    """The table and the charts of cells, in the order given."""
    payload = payload_of(cells)
    axes = axes_of(cell["across"] for cell in payload.cells if cell["ended"])
    return Compared(
        headings=headings(cells),
        rows=table_rows(cells),
        filters=_filters(cells),
        payload=payload,
        axes=axes,
        charts=_charts(payload, axes),
    )


def _filters(cells: Sequence[Cell]) -> dict[str, list[str]]:
    columns = zip(*(levels_of(cell) for cell in cells if cell.failure is None), strict=True)
    found = {name: in_order(levels) for name, levels in zip(FILTERS, columns, strict=False)}
    return {name: levels for name, levels in found.items() if len(levels) > 1}


def _charts(payload: Payload, axes: Sequence[Axis]) -> list[Drawn]:
    """Models compared, each as it ended."""
    ended = [cell for cell in payload.cells if cell["ended"]]
    drawn = []
    bars = "95 % intervals" if not any(cell["level"] for cell in ended) else "intervals, at the levels in the table"

    def add(key: str, layers: list[alt.Chart], title: str, note: str, height: int, *choices: str) -> None:
        chart = finished(layers, title=title, note=note, height=height)
        drawn.append(Drawn(key=key, chart=chart, choices=choices))

    if payload.plain:
        count = max(sum(c["context"] == context for c in ended) for context in range(len(payload.contexts)))
        space = 24 if count <= _FEW_MODELS else 12
        note = f"Bars are {bars}, each its own: overlapping intervals settle nothing."
        if any(cell["null"] for cell in ended):
            note += " Grey ticks: mean EES of untrained models of the same shape."
        add("study-models", study_charts.dots(ROWS), "Models", note, max(140, space * count), "plain")
    if payload.plain and axes:
        note = f"Bars are {bars}. Models of which it is not known where they stand on the axis are left out."
        layers = study_charts.across(ROWS, x=axes[0].x)
        add("study-across", layers, "Across models", note, 340, "across", "across-figure")
    if any("decided" in cell["by_depth"] for cell in ended):
        note = "With blocks of equal cost, the area under a curve is EES. Of checkpoints the last one is shown."
        add("study-decided", study_charts.curves(ROWS), "Decided curves", note, 360)
    if any(cell["batch"] for cell in ended):
        note = "A block is skipped only where every row of the batch has settled: savings fade as batches grow."
        add("study-batch", study_charts.batches(ROWS), "Batches", note, 300)
    if any(cell["held"] for cell in ended):
        note = "Lines join what one policy with its probes was held to. Below 0 it costs more than it saves."
        add("study-policies", study_charts.frontiers(ROWS), "Policies", note, 340, "ended", "saving")
    return drawn
