"""The page of studies on disk: their rows, with the title and the finding that lie beside them.

Several folders give one page, as one study that was measured in parts; a finding is shown where there is one folder,
for it was made from the rows of that one. Non-goals: judging a finding anew.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from exitbench.errors import ReportError
from exitbench.report.study import write_study_page
from exitbench.study.finding import Finding
from exitbench.study.results import CELLS, FINDING_FILE, SPEC_FILE, read_rows
from exitbench.study.spec import read_spec

__all__ = ["is_study_folder", "report_studies"]


def is_study_folder(path: Path) -> bool:
    """Whether a folder holds the cells of a study."""
    return (path / CELLS).is_dir()


def report_studies(folders: Sequence[Path], out: Path) -> int:
    """Write one page on the studies in `folders` to `out`, and return how many of their cells failed.

    Raises:
        ReportError: no rows, rows that contradict one another, or a finding that cannot be read.
        ExitbenchError: a spec that cannot be read, or the file cannot be written.
    """
    rows = read_rows(folders)
    title = "; ".join(dict.fromkeys(map(_title, folders)))
    command = "; ".join(dict.fromkeys(row.command for row in rows))
    finding = _finding(folders[0] / FINDING_FILE) if len(folders) == 1 else None
    write_study_page(rows, out, title=title, finding=finding, command=command)
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
