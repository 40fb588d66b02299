"""One self-contained HTML page for a study: what came of its question, every cell, training by depth, models compared.

As the page of a result, it opens from disk and fetches nothing, see `render`; its numbers travel as one block of data
from which its script fills the charts, so that hundreds of checkpoints fit in a few megabytes. Charts that a study has
no rows for are left out.

Non-goals: statistics across models (`exitbench.study` makes those, the page only shows them), and reading files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt

from exitbench import files as disk
from exitbench.errors import ReportError
from exitbench.report import study_charts
from exitbench.report.chart_parts import Chart, finished
from exitbench.report.glossary import GLOSSARY
from exitbench.report.render import render
from exitbench.report.study_across import Axis, axes_of
from exitbench.report.study_cells import Cell, cells_of
from exitbench.report.study_charts import ROWS
from exitbench.report.study_finding import finding_chapter
from exitbench.report.study_origin import FILTERS, levels_of
from exitbench.report.study_payload import DIGITS, Payload, payload_of
from exitbench.report.study_pictures import study_pictures
from exitbench.report.study_table import failures, headings, table_rows
from exitbench.study.finding import Finding
from exitbench.study.rows import Row

__all__ = ["study_pictures", "write_study_page"]


FEW_MODELS = 60
"""Up to so many, each has a line of text to itself."""
SAVINGS = ("blocks skipped", "FLOPs, net of probes and of states copied", "bytes, net of probes and of states deferred")
"""What a policy saves, in the order of the payload."""


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """A chart with the choices that stand over it."""

    key: str
    chart: Chart
    choices: tuple[str, ...] = ()
    """Names of the choices that this chart alone follows."""


def write_study_page(
    rows: Sequence[Row],
    out: Path,
    *,
    title: str,
    finding: Finding | None = None,
    command: str = "",
    explored: Sequence[tuple[str, dict[str, Any]]] = (),
) -> Path:
    """Write the page of a study and return its path.

    Args:
        rows: all rows of the study, in any order.
        out: the page's file name, written atomically.
        title: of the study, for people.
        finding: the finding that was made from these rows, if the study asked for one.
        command: what made the study, as typed.
        explored: title and tokens of results that have a trace, see `explorer`.

    Raises:
        ReportError: no rows.
        ExitbenchError: the file cannot be written.
    """
    if not rows:
        raise ReportError("no rows to report; give the folder of a study in which at least one cell was measured")
    cells = cells_of(rows)
    payload = payload_of(cells)
    axes = axes_of(cell["across"] for cell in payload.cells if cell["ended"])
    page = render(
        "study.html.j2",
        scripts=("study.js", "page.js"),
        title=title,
        command=command,
        subject=_subject(cells),
        finding=None if finding is None else finding_chapter(finding),
        headings=headings(),
        rows=table_rows(cells),
        failures=failures(cells),
        payload=payload,
        training=_training(cells, payload),
        comparison=_comparison(payload, axes),
        axes=[(axis.name, axis.title) for axis in axes],
        data=payload.to_json() | {"axes": {axis.name: axis.x.to_dict() for axis in axes}},
        filters=_filters(cells),
        filter_names=FILTERS,
        savings=SAVINGS,
        explored=explored,
        digits=DIGITS,
        glossary=GLOSSARY,
        libraries=sorted({row.first.libraries for row in cells if row.first.libraries}),
    )
    disk.write_text(out, page)
    return out


def _subject(cells: Sequence[Cell]) -> str:
    models = {cell.first.model for cell in cells}
    checkpoints = sum(cell.is_checkpoint for cell in cells)
    failed = sum(cell.failure is not None for cell in cells)
    parts = [f"{len(cells)} cells: {len(models)} models"]
    if checkpoints:
        parts.append(f"{checkpoints} of the cells are checkpoints of training")
    if failed:
        parts.append(f"{failed} failed")
    return "; ".join(parts)


def _training(cells: Sequence[Cell], payload: Payload) -> list[_Drawn]:
    """Charts of the chapter on training; none where no model has two checkpoints."""
    if not payload.trained:
        return []
    in_training = [cell for cell in payload.cells if cell["place"] is not None]
    drawn = []
    if payload.by_depth:
        note = (
            "Depth 0 is the embedding. Each column is a checkpoint, in the order of training; columns are not to scale."
        )
        chart = finished(study_charts.heat_map(ROWS, axis=payload.axis), title="By depth", note=note, height=380)
        drawn.append(_Drawn(key="study-heat", chart=chart, choices=("figure",)))
    if any(cell["by_pair"] for cell in in_training):
        note = "Move the slider through training. Colours mean the same at every checkpoint of a model."
        if payload.stride > 1:
            note += f" To keep this page small, of the depths, one in {payload.stride} is shown, and the last."
        chart = finished(study_charts.matrix(ROWS), title="Depth by depth", note=note, height=380)
        drawn.append(_Drawn(key="study-pairs", chart=chart, choices=("pair", "checkpoint")))
    with_ees = [cell for cell in in_training if "ees" in cell["plain"]]
    null = "The dashed line is the mean over untrained models of the chosen one's shape, the band their range."
    if with_ees:
        note = "Lines join the checkpoints of a model; bars are 95 % intervals."
        if any(cell["null"] for cell in with_ees):
            note += f" {null}"
        places = [cell["at"] for cell in with_ees if cell["at"] is not None]
        drawn.append(_progress("study-progress", study_charts.training_axis(payload.axis, places), note))
        if any("bits_per_character" in cell["plain"] for cell in with_ees):
            drawn.append(
                _progress("study-characters", study_charts.loss_axis("bits per character, better to the right"), note)
            )
        elif any(cell["loss"] is not None for cell in with_ees):
            axis = study_charts.loss_axis("loss (nats a token), better to the right")
            drawn.append(_progress("study-loss", axis, note + " Losses of different vocabularies do not compare."))
    return drawn


def _progress(key: str, x: alt.X, note: str) -> _Drawn:
    return _Drawn(key=key, chart=finished(study_charts.progress(ROWS, x=x), title="EES", note=note, height=320))


def _filters(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """What the table can be narrowed by: only what tells cells apart."""
    columns = zip(*(levels_of(cell) for cell in cells if cell.failure is None), strict=True)
    found = {name: sorted(set(levels)) for name, levels in zip(FILTERS, columns, strict=False)}
    return {name: levels for name, levels in found.items() if len(levels) > 1}


def _comparison(payload: Payload, axes: Sequence[Axis]) -> list[_Drawn]:
    """Charts of the chapter that compares models, each as it ended."""
    ended = [cell for cell in payload.cells if cell["ended"]]
    drawn = []
    if payload.plain:
        count = max(sum(c["context"] == context for c in ended) for context in range(len(payload.contexts)))
        space = 24 if count <= FEW_MODELS else 12
        note = "Bars are 95 % intervals, each its own: overlapping intervals settle nothing."
        if any(cell["null"] for cell in ended):
            note += " Grey ticks: mean EES of untrained models of the same shape."
        chart = finished(study_charts.dots(ROWS), title="Models", note=note, height=max(140, space * count))
        drawn.append(_Drawn(key="study-models", chart=chart, choices=("plain",)))
    if payload.plain and axes:
        note = "Bars are 95 % intervals. Models of which it is not known where they stand on the axis are left out."
        chart = finished(study_charts.across(ROWS, x=axes[0].x), title="Across models", note=note, height=340)
        drawn.append(_Drawn(key="study-across", chart=chart, choices=("across", "across-figure")))
    if any("decided" in cell["by_depth"] for cell in ended):
        note = "With blocks of equal cost, the area under a curve is EES. Of checkpoints the last one is shown."
        chart = finished(study_charts.curves(ROWS), title="Decided curves", note=note, height=360)
        drawn.append(_Drawn(key="study-decided", chart=chart))
    if any(cell["batch"] for cell in ended):
        note = "A block is skipped only where every row of the batch has settled: savings fade as batches grow."
        chart = finished(study_charts.batches(ROWS), title="Batches", note=note, height=300)
        drawn.append(_Drawn(key="study-batch", chart=chart))
    if any(cell["held"] for cell in ended):
        note = "Lines join what one policy with its probes was held to. Below 0 it costs more than it saves."
        chart = finished(study_charts.frontiers(ROWS), title="Policies", note=note, height=340)
        drawn.append(_Drawn(key="study-policies", chart=chart, choices=("ended", "saving")))
    return drawn
