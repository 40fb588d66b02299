"""Studies: many models on many workloads, resumable, in one folder."""

from dataclasses import replace
from pathlib import Path

from exitbench.api.folders import OUT
from exitbench.api.judging import write_finding
from exitbench.progress import SILENT, Progressor
from exitbench.report.study_folders import report_studies
from exitbench.study.estimate import Forecast, forecast
from exitbench.study.run import StudyRun, prepare, run_study
from exitbench.study.spec import StudySpec, read_spec

__all__ = ["default_study_folder", "plan_study", "study"]

PAGE = "index.html"


def study(
    spec: Path | str,
    *,
    out: Path | str | None = None,
    retry_failed: bool = False,
    ray: str | None = None,
    command: str = "",
    progress: Progressor = SILENT,
) -> StudyRun:
    """Measure the cells of a study that are not in the folder `out` yet, judge its finding, and write its page there.

    Args:
        spec: the YAML file that says what is measured.
        out: folder of results; `exitbench-out/study-NAME` if left out.
        retry_failed: measure the cells again that failed before.
        ray: address of a Ray cluster to measure on, HOST:PORT or "auto"; in this process if None.
        command: recorded in rows; this call if left out.
        progress: where to show messages and bars.

    Raises:
        ExitbenchError: one of its kinds; a cell that cannot be measured raises nothing, see `StudyRun.failed`. If the
            finding cannot be judged after all, the page is written first.
    """
    path = Path(spec)
    read = read_spec(path)
    folder = Path(out) if out is not None else default_study_folder(read)
    command = command or f"exitbench.api.study({str(path)!r}, out={str(folder)!r})"
    done = run_study(
        read,
        path.read_bytes(),
        base=path.parent,
        out=folder,
        retry_failed=retry_failed,
        ray=ray,
        command=command,
        progress=progress,
    )
    try:
        finding = None if read.finding is None else write_finding(folder, command=command)
    finally:  # a finding that cannot be judged takes no page away from what was measured
        report_studies([folder], folder / PAGE)
    return replace(done, finding=finding)


def plan_study(spec: Path | str, *, out: Path | str | None = None, progress: Progressor = SILENT) -> Forecast:
    """What `study` would do and take, roughly; nothing is loaded, and nothing is written."""
    path = Path(spec)
    read = read_spec(path)
    folder = Path(out) if out is not None else default_study_folder(read)
    prepared, cells, _ = prepare(read, path.parent, folder, progress=progress)
    return forecast(cells, prepared, read)


def default_study_folder(spec: StudySpec) -> Path:
    """`exitbench-out/study-NAME` below the working directory."""
    return OUT / f"study-{spec.name}"
