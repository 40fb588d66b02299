"""What studies on disk become: a page, a table or pictures, with the title and the finding that lie beside their rows.

Several folders give one page, as one study that was measured in parts, and results of single runs may stand beside
them; a finding is shown where there is one folder and nothing else, for it was made from the rows of that one.
Non-goals: judging a finding anew.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exitbench.config import ReportForm
from exitbench.errors import ReportError
from exitbench.report.export import write_csv, write_markdown
from exitbench.report.study import study_pictures, write_study_page
from exitbench.study.finding import Finding
from exitbench.study.results import CELLS, FINDING_FILE, SPEC_FILE, read_rows
from exitbench.study.rows import Row, write_rows
from exitbench.study.spec import read_spec

__all__ = ["Shown", "is_study_folder", "report_studies"]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A single result as it stands beside studies."""

    path: Path
    title: str
    rows: list[Row]
    explorer: dict[str, Any] | None = None
    """Its tokens; None without a trace."""


def is_study_folder(path: Path) -> bool:
    """Whether a folder holds the cells of a study."""
    return (path / CELLS).is_dir()


def report_studies(
    folders: Sequence[Path], out: Path, *, form: ReportForm = "html", results: Sequence[Shown] = ()
) -> int:
    """Write what the studies in `folders` hold to `out`, and return how many of their cells failed.

    Args:
        folders: of studies; none if there are single results.
        out: a file; for pictures a folder.
        form: of what is written.
        results: of single runs, whose rows stand beside those of the studies.

    Raises:
        ReportError: no rows, rows that contradict one another, or a finding that cannot be read.
        ExitbenchError: a spec that cannot be read, or the file cannot be written.
    """
    rows = read_rows(folders, beside=[(shown.path, row) for shown in results for row in shown.rows])
    title = "; ".join(dict.fromkeys([*map(_title, folders), *(shown.title for shown in results)]))
    finding = _finding(folders[0] / FINDING_FILE) if len(folders) == 1 and not results else None
    match form:
        case "html":
            command = "; ".join(dict.fromkeys(row.command for row in rows))
            explored = [(shown.title, shown.explorer) for shown in results if shown.explorer is not None]
            write_study_page(rows, out, title=title, finding=finding, command=command, explored=explored)
        case "csv":
            write_csv(rows, out)
        case "parquet":
            write_rows(out, rows)
        case "md":
            write_markdown(rows, out, title=title, finding=finding)
        case "png" | "svg":
            study_pictures(rows, out, form=form)
    return len({row.cell for row in rows if row.status == "failed"})


def _title(folder: Path) -> str:
    file = folder / SPEC_FILE
    if not file.is_file():
        return folder.resolve().name
    spec = read_spec(file)
    return spec.title or spec.name


def _finding(file: Path) -> Finding | None:
    if not file.is_file():
        return None
    try:
        return Finding.from_json(json.loads(file.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ReportError(f"{file} is no JSON ({error}); delete it, or make the finding again") from error
    except ReportError as error:
        raise ReportError(f"{file}: {error}; delete it, or make the finding again") from error
