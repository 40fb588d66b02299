"""One self-contained HTML page on single results: several of them first side by side, then each in full.

How it is kept self-contained is told in `render`. Results stand side by side as the cells of a study do, see
`study_compared`; each is a cell of its own, so that two measurements of the same thing are shown and never merged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exitbench import files as disk
from exitbench.errors import ReportError
from exitbench.report import figures
from exitbench.report.cautions import cautions
from exitbench.report.chapters import Chapter, chapters, opening_chart
from exitbench.report.chart_parts import Chart
from exitbench.report.explorer import EXPLORER_BUDGET_BYTES, explorer_payload
from exitbench.report.glossary import GLOSSARY
from exitbench.report.pays import pays
from exitbench.report.policy_charts import PolicyChapter, policy_chapter
from exitbench.report.render import render
from exitbench.report.result import Result
from exitbench.report.study_cells import cells_of
from exitbench.report.study_compared import Compared, compared
from exitbench.score.scorecard import ScoreCard
from exitbench.study.of_result import labels_of, rows_of_result

__all__ = ["charts_of", "write_report"]


@dataclass(frozen=True, kw_only=True)
class _Section:
    """One result as the template reads it."""

    key: str
    """Prefix of the section's element ids."""
    card: ScoreCard
    subject: str
    headline: tuple[figures.Line, ...]
    second_screen: tuple[figures.Line, ...]
    pays: tuple[str, ...]
    cautions: tuple[str, ...]
    opening: Chart
    chapters: tuple[Chapter, ...]
    policies: PolicyChapter | None
    failures: tuple[tuple[str, str], ...]
    provenance: tuple[tuple[str, str], ...]
    explorer: dict[str, Any] | None


def write_report(results: Sequence[Result], out: Path) -> Path:
    """Write one page for all results and return its path.

    Args:
        results: in the order they are shown; several get a table of comparison first.
        out: the page's file name, written atomically.

    Raises:
        ReportError: no results.
        ExitbenchError: the file cannot be written.
    """
    if not results:
        raise ReportError("no results to report; give at least one folder with a score.json")
    budget = EXPLORER_BUDGET_BYTES // len(results)
    labels = labels_of([result.card for result in results])
    sections = [_section(f"r{i}", *named, budget) for i, named in enumerate(zip(labels, results, strict=True))]
    page = render(
        "page.html.j2",
        scripts=("study.js", "page.js"),
        sections=sections,
        compared=_side_by_side(labels, results),
        links=[section.key for section in sections],
        glossary=GLOSSARY,
    )
    disk.write_text(out, page)
    return out


def _section(key: str, label: str, result: Result, budget_bytes: int) -> _Section:
    card, trace = result.card, result.trace
    subject = figures.subject(card)
    return _Section(
        key=key,
        card=card,
        subject=subject if label == card.model.name else f"{label}: {subject}",
        headline=figures.headline(card),
        second_screen=figures.second_screen(card),
        pays=pays(card),
        cautions=cautions(card),
        opening=opening_chart(card),
        chapters=chapters(card),
        policies=None if result.replay is None else policy_chapter(result.replay),
        failures=() if trace is None else tuple((f.sample_id, f.reason) for f in trace.failures),
        provenance=_provenance(card),
        explorer=None if trace is None else explorer_payload(trace, budget_bytes=budget_bytes),
    )


def charts_of(result: Result) -> tuple[Chart, ...]:
    """Every chart of one result on its own, in the order of the page."""
    of_chapters = [chart for chapter in chapters(result.card) for chart in chapter.charts]
    of_policies = () if result.replay is None else policy_chapter(result.replay).charts
    return (opening_chart(result.card), *of_chapters, *of_policies)


def _side_by_side(labels: Sequence[str], results: Sequence[Result]) -> Compared:
    """The results as cells, in their order."""
    named = zip(labels, results, strict=True)
    rows = (rows_of_result(result.card, result.replay, label=label) for label, result in named)
    return compared([cell for found in rows for cell in cells_of(found)])


def _provenance(card: ScoreCard) -> tuple[tuple[str, str], ...]:
    model, shape, settings, workload = card.model, card.shape, card.settings, card.workload
    rows = {
        "model": f"{model.name} (asked for as {model.source}; type {model.model_type})",
        "revision": model.revision or "n/a",
        "weights, sha256": model.weights_sha256,
        "quantisation": model.quantisation or "none",
        "licence": model.licence or "n/a",
        "size": f"{shape.num_blocks} blocks, width {shape.hidden_size}, vocabulary {shape.vocab_size:,}, "
        f"{shape.num_parameters:,} parameters",
        "workload": f"{workload.name}, version {workload.version}, {workload.num_samples} samples",
        "workload, sha256": workload.sha256,
        **{f"setting: {name}": "n/a" if value is None else str(value) for name, value in settings},
        **{f"library: {name}": version for name, version in sorted(card.libraries.items())},
        **{f"machine: {name}": str(value) for name, value in card.environment.items()},
        "trace made": card.created,
        "command": card.command,
        "intervals": f"{figures.level_text(card)}, {card.draws} bootstrap draws, seed {card.seed}",
    }
    return tuple(rows.items())
