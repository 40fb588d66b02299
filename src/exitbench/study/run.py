"""Run a study: measure the cells that are not there yet, one after the other, and note those that fail.

Cells of one model follow each other and share its weights. Whatever a cell raises becomes its one row with the reason,
and the study goes on. A kill costs at most the sample in work. A mistake in the study as a whole is raised before the
first cell.

Time is booked in two places: inside cells (loading and letting go of models, tracing, scoring) and outside (planning,
writing rows, removing scratch), so that what the runner itself costs is known.
"""

import gc
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from exitbench.errors import ExitbenchError, ModelError
from exitbench.models.load import LoadedModel, load
from exitbench.models.placement import placement_options
from exitbench.models.pretrained import check_attention
from exitbench.progress import SILENT, Progressor
from exitbench.study.cells import Cell, StudiedModel, plan
from exitbench.study.factors import Observed
from exitbench.study.finding import Finding
from exitbench.study.folder import Failure, StudyFolder
from exitbench.study.measure import failed_rows, measure, observed_of
from exitbench.study.planned import write_plan
from exitbench.study.preflight import check_finding, check_unmoved
from exitbench.study.rows import Row
from exitbench.study.spec import StudySpec
from exitbench.study.untrained import Nulls
from exitbench.trace.lock import sole_writer

__all__ = ["Ledger", "StudyRun", "prepare", "run_study"]

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
        """Seconds outside the cells for each second inside; None if none was measured."""
        return self.overhead_s / self.cells_s if self.measured else None

    def summary(self) -> dict[str, Any]:
        """What it did and cost, as plain JSON values."""
        names = ("cells", "done", "measured", "cells_s", "overhead_s", "overhead_share")
        return {name: getattr(self, name) for name in names} | {"failed": [asdict(failure) for failure in self.failed]}

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        finding = None if self.finding is None else self.finding.to_json()
        return {"folder": str(self.folder), **self.summary(), "finding": finding}


@dataclass
class Ledger:
    """Where the time of a run goes."""

    began: float = field(default_factory=perf_counter)
    cells_s: float = 0.0

    @contextmanager
    def cell(self) -> Iterator[None]:
        """Book the time of the context as that of a cell."""
        began = perf_counter()
        try:
            yield
        finally:
            self.cells_s += perf_counter() - began

    @property
    def overhead_s(self) -> float:
        """Seconds since the beginning that no cell had."""
        return perf_counter() - self.began - self.cells_s


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
        command: recorded in rows.
        progress: where to show messages and bars.

    Raises:
        StudyError: the study cannot be planned, its finding could not be judged, or the folder holds another one.
        TraceError: another run is writing there.
        ExitbenchError: a workload, model or device that is not there.
    """
    ledger = Ledger()
    check_attention(spec.settings.attention)
    placement_options(spec.settings.device, None)
    with sole_writer(out):
        folder, cells, planned = prepare(spec, base, out, command=command, progress=progress)
        has_results = folder.has_results()
        folder.begin(spec_text, cells)
        write_plan(out, planned, has_results=has_results)
        todo = [cell for cell in cells if not folder.is_tried(cell) or (retry_failed and folder.failure(cell))]
        _Runner(spec, base, folder, ledger, command, progress).run(todo, len(cells))
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


@dataclass(frozen=True)
class _Runner:
    spec: StudySpec
    base: Path
    folder: StudyFolder
    ledger: Ledger
    command: str
    progress: Progressor
    nulls: Nulls = field(default_factory=Nulls)

    def run(self, todo: Sequence[Cell], num_cells: int) -> None:
        """Measure cells, those of one model with one load."""
        number = num_cells - len(todo)
        for model, cells in groupby(todo, key=lambda cell: cell.model):
            shared = _SharedModel(model, self.spec.settings.loading, self.progress)
            for cell in cells:
                number += 1
                self.progress.say(f"cell {number} of {num_cells}: {cell.name}")
                self._run(cell, shared)
            with self.ledger.cell():
                shared.release()

    def _run(self, cell: Cell, shared: "_SharedModel") -> None:
        began = perf_counter()
        with self.ledger.cell():
            rows, observed = self._attempt(cell, shared)
        seconds = perf_counter() - began
        if rows[0].status == "failed":
            self.progress.say(f"failed: {rows[0].reason}")
        self.folder.write(cell, [replace(row, seconds=seconds) for row in rows], observed)

    def _attempt(self, cell: Cell, shared: "_SharedModel") -> tuple[list[Row], Observed]:
        observed = observed_of(cell, None)
        try:
            loaded = shared.get()
            observed = observed_of(cell, loaded)
            self.folder.refuse_other_weights(cell, loaded.source)
            rows = measure(
                loaded,
                cell,
                self.spec,
                base=self.base,
                trace_folder=self.folder.trace_of(cell),
                observed=observed,
                nulls=self.nulls,
                command=self.command,
                progress=self.progress,
            )
        except ExitbenchError as error:
            reason = str(error)
        except Exception as error:  # whatever it is, the other cells are to be measured
            reason = _unexpected(error)
        else:
            return rows, observed
        return failed_rows(cell, self.spec, reason, observed, command=self.command), observed


class _SharedModel:
    """The weights of one model, loaded when first asked for; a failure is remembered too."""

    def __init__(self, model: StudiedModel, loading: dict[str, Any], progress: Progressor) -> None:
        self._model = model
        self._loading = loading
        self._progress = progress
        self._loaded: LoadedModel | None = None
        self._failure: Exception | None = None

    def get(self) -> LoadedModel:
        """The loaded model.

        Raises:
            ModelError: its weights are not those that the cells were planned for.
            Exception: whatever loading raised, now or before.
        """
        if self._failure is not None:
            raise self._failure
        if self._loaded is None:
            try:
                self._loaded = self._load()
            except Exception as error:
                self._failure = error
                raise
        return self._loaded

    def _load(self) -> LoadedModel:
        planned = self._model
        loaded = load(planned.load_from, revision=planned.load_revision, progress=self._progress, **self._loading)
        if planned.weights_sha256 not in (None, loaded.source.weights_sha256):
            raise ModelError(f"the weights of {planned.source} changed while the study ran; run it again")
        return loaded

    def release(self) -> None:
        """Let go of the weights, so that the next model has room."""
        self._loaded = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _unexpected(error: Exception) -> str:
    """What a failure that nobody foresaw was, and where."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())[:300]
    return f"unexpected {type(error).__name__}: {text} ({Path(last.filename).name}, line {last.lineno})"
