"""From folders of studies to findings to be judged: each folder's own spec, plan and rows, which do not disagree.

Non-goals: judging (`findings`).
"""

from collections.abc import Sequence
from pathlib import Path

from exitbench.errors import StudyError
from exitbench.plain import plain
from exitbench.study.findings import Case
from exitbench.study.planned import read_plan
from exitbench.study.results import SPEC_FILE, read_studies
from exitbench.study.spec import read_spec

__all__ = ["read_cases"]


def read_cases(folders: Sequence[Path | str]) -> list[Case]:
    """Read the findings that studies ask for.

    Args:
        folders: of studies, as `exitbench study` wrote them.

    Raises:
        StudyError: no study, one that asks for no finding, one that is given twice, or a plan that cannot be read.
        ReportError: rows that cannot be read, or that contradict one another.
    """
    paths = [Path(folder) for folder in folders]
    names: dict[str, Path] = {}
    specs = []
    for path in paths:
        shown = plain(str(path))
        if not (path / SPEC_FILE).is_file():
            raise StudyError(f"{shown} is no study: it has no {SPEC_FILE}; give the --out folder of 'exitbench study'")
        spec = read_spec(path / SPEC_FILE)
        if spec.finding is None:
            raise StudyError(f"{shown} asks for no finding; add a section 'finding' to its spec and run it again")
        if spec.name in names:
            raise StudyError(
                f"{shown} and {plain(str(names[spec.name]))} are both of study {spec.name}; give one of them"
            )
        names[spec.name] = path
        specs.append((spec, spec.finding))
    return [
        Case(rows=rows, spec=finding, study=spec.name, title=spec.title or spec.name, plan=read_plan(path))
        for path, (spec, finding), rows in zip(paths, specs, read_studies(paths), strict=True)
    ]
