"""One self-contained HTML page for a study: what came of its question, every cell, training by depth, models compared.

As the page of a result, it opens from disk and fetches nothing, see `render`; its numbers travel as one block of data
from which its script fills the charts, so that hundreds of checkpoints fit in a few megabytes. Charts that a study has
no rows for are left out.

Non-goals: statistics across models (`exitbench.study` makes those, the page only shows them), and reading files.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt

from exitbench import files as disk
from exitbench.errors import ReportError
from exitbench.report import study_charts
from exitbench.report.chart_parts import finished
from exitbench.report.finding import summary_of
from exitbench.report.glossary import GLOSSARY
from exitbench.report.render import render
from exitbench.report.study_cells import Cell, cells_of
from exitbench.report.study_charts import ROWS
from exitbench.report.study_claims import Claims
from exitbench.report.study_compared import Drawn, compared
from exitbench.report.study_finding import finding_chapter
from exitbench.report.study_payload import DIGITS, Payload
from exitbench.report.study_pictures import study_pictures
from exitbench.report.study_table import failures
from exitbench.study.rows import Row

__all__ = ["study_pictures", "write_study_page"]


def write_study_page(
    rows: Sequence[Row],
    out: Path,
    *,
    title: str,
    claims: Claims | None = None,
    command: str = "",
    explored: Sequence[tuple[str, dict[str, Any]]] = (),
) -> Path:
    """Write the page of a study and return its path.

    Args:
        rows: all rows of the study, in any order.
        out: the page's file name, written atomically.
        title: of the study, for people.
        claims: what came of what studies claimed.
        command: what made the study, as typed.
        explored: title and tokens of results that have a trace, see `explorer`.

    Raises:
        ReportError: no rows.
        ExitbenchError: the file cannot be written.
    """
    if not rows:
        raise ReportError("no rows to report; give the folder of a study in which at least one cell was measured")
    claims = claims or Claims()
    cells = cells_of(rows)
    shared = compared(cells)
    page = render(
        "study.html.j2",
        scripts=("study.js", "page.js"),
        title=title,
        command=command,
        subject=_subject(cells),
        findings=[finding_chapter(finding) for finding in claims.own],
        alone=claims.alone,
        together=summary_of(claims.together) if claims.together else None,
        not_together=claims.not_together,
        compared=shared,
        failures=failures(cells),
        training=_training(cells, shared.payload),
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


def _training(cells: Sequence[Cell], payload: Payload) -> list[Drawn]:
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
        drawn.append(Drawn(key="study-heat", chart=chart, choices=("figure",)))
    if any(cell["by_pair"] for cell in in_training):
        note = "Move the slider through training. Colours mean the same at every checkpoint of a model."
        if payload.stride > 1:
            note += f" To keep this page small, of the depths, one in {payload.stride} is shown, and the last."
        chart = finished(study_charts.matrix(ROWS), title="Depth by depth", note=note, height=380)
        drawn.append(Drawn(key="study-pairs", chart=chart, choices=("pair", "checkpoint")))
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


def _progress(key: str, x: alt.X, note: str) -> Drawn:
    return Drawn(key=key, chart=finished(study_charts.progress(ROWS, x=x), title="EES", note=note, height=320))
