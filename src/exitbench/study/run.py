"""Run a study: measure the cells that are not there yet, and note those that fail.

Cells of one model follow each other and share its weights, in this process or as one task of a Ray cluster (`on_ray`).
Whatever a cell raises becomes its one row with the reason, and the study goes on. A kill costs at most the sample in
work; on a cluster, the cells in work. A mistake in the study as a whole is raised before the first cell.

Time is booked in two places: inside cells and beside them (`ledger`), so that what the runner itself costs is known.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from exitbench.errors import StudyError
from exitbench.models.placement import placement_options
from exitbench.models.pretrained import check_attention
from exitbench.progress import SILENT, Progressor
from exitbench.study.attempt import SharedModel, Task
from exitbench.study.cells import Cell, plan
from exitbench.study.cluster import connected
from exitbench.study.finding import Finding
from exitbench.study.folder import Failure, StudyFolder
from exitbench.study.ledger import Ledger
from exitbench.study.measure import failed_rows, observed_of
from exitbench.study.on_ray import RayRunner
from exitbench.study.planned import write_plan
from exitbench.study.preflight import check_finding, check_unmoved
from exitbench.study.rows import Row
from exitbench.study.spec import StudySpec
from exitbench.study.untrained import Nulls
from exitbench.trace.lock import sole_writer

__all__ = ["StudyRun", "prepare", "run_study"]

_NOT_YET = "the study has not come to it yet"


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """What a run of a study leaves, and what it cost."""

    folder: Path
    cells: int
    """All of them."""
    done: int
    """Of them, with figures; measured now or before."""
    failed: tuple[Failure, ...]
    """Now or before."""
    measured: int
    """Tried in this run, failed ones included."""
    cells_s: float
    """Seconds inside the cells of this run, loading included."""
    overhead_s: float
    """Seconds of this run outside its cells."""
    finding: Finding | None = None
    """What came of the claim, if the spec has one and it was judged."""

    @property
    def overhead_share(self) -> float | None:
        """Seconds outside the cells for each second inside; None if no cell came to an end."""
        return self.overhead_s / self.cells_s if self.cells_s else None

    def summary(self) -> dict[str, Any]:
        """What it did and cost, as plain JSON values."""
        names = ("cells", "done", "measured", "cells_s", "overhead_s", "overhead_share")
        return {name: getattr(self, name) for name in names} | {"failed": [asdict(failure) for failure in self.failed]}

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        finding = None if self.finding is None else self.finding.to_json()
        return {"folder": str(self.folder), **self.summary(), "finding": finding}


def prepare(
    spec: StudySpec, base: Path, out: Path, *, command: str = "", progress: Progressor = SILENT
) -> tuple[StudyFolder, list[Cell], list[Row]]:
    """Plan a study, and check what can be told before anything is loaded or written.

    Args:
        spec: of the study.
        base: folder that paths in it are relative to.
        out: folder of results.
        command: recorded in rows.
        progress: where to show messages and bars.

    Returns:
        The folder, the cells, and a row for each cell with what is known of its model before it is loaded.

    Raises:
        ExitbenchError: as `run_study`, but for what concerns the device and other runs.
    """
    folder = StudyFolder(out, spec)
    cells = plan(spec, base, progress=progress)
    planned = [
        row for cell in cells for row in failed_rows(cell, spec, _NOT_YET, observed_of(cell, None), command=command)
    ]
    check_unmoved(spec, cells, folder)
    check_finding(spec, planned)
    return folder, cells, planned


def run_study(
    spec: StudySpec,
    spec_text: bytes,
    *,
    base: Path,
    out: Path,
    retry_failed: bool = False,
    ray: str | None = None,
    command: str = "",
    progress: Progressor = SILENT,
) -> StudyRun:
    """Measure the cells of a study that are not there yet.

    Args:
        spec: of the study.
        spec_text: the file it was read from, which is kept beside the results.
        base: folder that paths in the spec are relative to.
        out: folder of results.
        retry_failed: measure the cells again that failed before.
        ray: address of a Ray cluster to measure them on, see `cluster.connected`; here if None.
        command: recorded in rows.
        progress: where to show messages and bars.

    Raises:
        StudyError: the study cannot be planned, its finding could not be judged, the folder holds another one, or the
            cluster is not there or not fit for it.
        TraceError: another run is writing there.
        ExitbenchError: a workload, model or device that is not there.
    """
    ledger = Ledger()
    check_attention(spec.settings.attention)
    if ray is None:
        placement_options(spec.settings.device, None)
    elif spec.keep_traces:
        raise StudyError(
            "keep_traces does not go with --ray, whose nodes may not see the folder; leave out one of them"
        )
    else:
        base = base.resolve()  # nodes have other working folders
    with nullcontext() if ray is None else connected(ray) as library, sole_writer(out):
        folder, cells, planned = prepare(spec, base, out, command=command, progress=progress)
        has_results = folder.has_results()
        folder.begin(spec_text, cells)
        write_plan(out, planned, has_results=has_results)
        todo = [cell for cell in cells if not folder.is_tried(cell) or (retry_failed and folder.failure(cell))]
        task = Task(spec=spec, base=base, command=command)
        run = _run_here if library is None else RayRunner(library).run
        run(task, todo, len(cells), folder, ledger, progress)
        failed = tuple(failure for cell in cells if (failure := folder.failure(cell)) is not None)
        result = StudyRun(
            folder=out,
            cells=len(cells),
            done=len(cells) - len(failed),
            failed=failed,
            measured=len(todo),
            cells_s=ledger.cells_s,
            overhead_s=ledger.overhead_s,
        )
        folder.write_summary(result.summary())
    return result


def _run_here(
    task: Task, todo: Sequence[Cell], num_cells: int, folder: StudyFolder, ledger: Ledger, progress: Progressor
) -> None:
    """Measure cells in this process, those of one model with one load."""
    nulls = Nulls()
    number = num_cells - len(todo)
    for model, cells in groupby(todo, key=lambda cell: cell.model):
        shared = SharedModel(task=task, before=folder.weights_of(model), nulls=nulls, progress=progress)
        for cell in cells:
            number += 1
            progress.say(f"cell {number} of {num_cells}: {cell.name}")
            with ledger.cell():
                attempt = shared.measure(cell, folder.trace_of(cell))
            if attempt.failure is not None:
                progress.say(f"failed: {attempt.failure}")
            folder.write(cell, attempt.rows, attempt.observed)
        with ledger.cell():
            shared.release()
