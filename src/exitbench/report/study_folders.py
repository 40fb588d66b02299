"""What studies on disk become: a page, a table or pictures, with the title and the finding that lie beside their rows.

Several folders give one page, as one study that was measured in parts, and results of single runs may stand beside
them. What studies found is shown study by study, see `study_claims`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exitbench.config import ReportForm
from exitbench.errors import ReportError
from exitbench.report.chart_parts import Chart
from exitbench.report.export import write_csv, write_markdown
from exitbench.report.study import write_study_page
from exitbench.report.study_claims import Claims, read_claims
from exitbench.report.study_finding import finding_chapter
from exitbench.report.study_pictures import study_pictures
from exitbench.score.scorecard import NOT_RECORDED
from exitbench.study.results import CELLS, SPEC_FILE, read_rows
from exitbench.study.rows import Row, write_rows
from exitbench.study.spec import read_spec

__all__ = ["SingleResult", "holds_rows", "report_studies"]

_FEW_TITLES = 2
"""Up to so many are named."""


@dataclass(frozen=True, kw_only=True)
class SingleResult:
    """A run, a trace or a score, as it stands beside studies."""

    path: Path
    title: str
    rows: list[Row]
    explorer: dict[str, Any] | None = None
    """Its tokens; None without a trace."""
    charts: tuple[Chart, ...] = ()
    """Those of its own page."""


def holds_rows(path: Path) -> bool:
    """Whether a path is of a study's folder, or of a file of rows."""
    return (path / CELLS).is_dir() or path.suffix == ".parquet"


def report_studies(
    folders: Sequence[Path], out: Path, *, form: ReportForm = "html", results: Sequence[SingleResult] = ()
) -> int:
    """Write what the studies in `folders` hold to `out`, and return how many of their cells failed.

    Args:
        folders: of studies, or files of rows; none if there are single results.
        out: a file; for pictures a folder.
        form: of what is written.
        results: of single runs, whose rows stand beside those of the studies. What `--fast` left out is no row of
            theirs here: it contradicts no result in which it was measured.

    Raises:
        ReportError: no rows, rows that contradict one another, or a finding that cannot be read.
        ExitbenchError: a spec that cannot be read, or the file cannot be written.
    """
    beside = ((shown.path, row) for shown in results for row in shown.rows if row.reason != NOT_RECORDED)
    rows = read_rows(folders, beside=beside)
    title = _titles([*map(_title, folders), *(shown.title for shown in results)])
    claims = Claims()
    if form in ("html", "md", "png", "svg"):
        claims = read_claims(folders, alone=len(folders) == 1 and not results)
    match form:
        case "html":
            command = "; ".join(dict.fromkeys(row.command for row in rows if row.command))
            explored = [(shown.title, shown.explorer) for shown in results if shown.explorer is not None]
            write_study_page(rows, out, title=title, claims=claims, command=command, explored=explored)
        case "csv":
            write_csv(rows, out)
        case "parquet":
            try:
                write_rows(out, rows)
            except UnicodeEncodeError as error:
                raise ReportError("a name holds half a surrogate pair, which no Parquet file can; use csv") from error
        case "md":
            write_markdown(rows, out, title=title, claims=claims)
        case "png" | "svg":
            if not study_pictures(rows, out, form=form, charts=_charts(claims, results)):
                raise ReportError("nothing to draw: no cell was measured; --format md names those that failed")
    return len({row.cell for row in rows if row.status == "failed"})


def _charts(claims: Claims, results: Sequence[SingleResult]) -> Iterator[tuple[str, Chart]]:
    """Charts that have their numbers already, each with the name of its file."""
    for finding in claims.own:
        if (chart := finding_chapter(finding).chart) is not None:
            yield f"finding-{finding.study}", chart
    for number, shown in enumerate(results, start=1):
        for place, chart in enumerate(shown.charts, start=1):
            yield f"result-{number}-{shown.title}-{place}", chart


def _titles(titles: Sequence[str]) -> str:
    told = list(dict.fromkeys(titles))
    return "; ".join(told) if len(told) <= _FEW_TITLES else f"{told[0]}, and {len(told) - 1} more"


def _title(folder: Path) -> str:
    file = folder / SPEC_FILE
    if not file.is_file():
        return folder.resolve().name
    spec = read_spec(file)
    return spec.title or spec.name
