"""The cells of one model, tried with one load of its weights; whatever a cell raises becomes its one row.

The same code measures here and on the nodes of a cluster, so that rows do not depend on where a cell was measured. It
reads and writes nothing of the folder of the study but the trace in the folder it is given.
"""

import gc
import traceback
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter

import torch

from exitbench.errors import ExitbenchError, ModelError
from exitbench.models.load import LoadedModel, load
from exitbench.progress import SILENT, Progressor
from exitbench.study.cells import Cell
from exitbench.study.factors import Observed
from exitbench.study.folder import MeasuredWeights
from exitbench.study.measure import failed_rows, measure, observed_of
from exitbench.study.rows import Row
from exitbench.study.spec import StudySpec
from exitbench.study.untrained import Nulls

__all__ = ["Attempt", "SharedModel", "Task"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What all cells of a study are measured with."""

    spec: StudySpec
    base: Path
    """Folder that paths in it are relative to."""
    command: str = ""
    """Recorded in rows."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What came of a cell."""

    rows: list[Row]
    observed: Observed
    seconds: float

    @property
    def failure(self) -> str | None:
        """Why it could not be measured; None if it was."""
        return self.rows[0].reason if self.rows[0].status == "failed" else None


@dataclass(kw_only=True)
class SharedModel:
    """The weights of one model, loaded when first asked for; a failure is remembered too."""

    task: Task
    before: MeasuredWeights | None
    """What cells of this model were measured on before."""
    nulls: Nulls
    """Untrained nulls of the study so far."""
    progress: Progressor = SILENT
    _loaded: LoadedModel | None = field(default=None, init=False)
    _failure: Exception | None = field(default=None, init=False)

    def measure(self, cell: Cell, trace_folder: Path) -> Attempt:
        """Measure one of the model's cells.

        Args:
            cell: of the study.
            trace_folder: where its trace is written, or goes on.
        """
        began = perf_counter()
        rows, observed = self._try(cell, trace_folder)
        seconds = perf_counter() - began
        return Attempt(rows=[replace(row, seconds=seconds) for row in rows], observed=observed, seconds=seconds)

    def _try(self, cell: Cell, trace_folder: Path) -> tuple[list[Row], Observed]:
        spec, command = self.task.spec, self.task.command
        observed = observed_of(cell, None)
        try:
            loaded = self._get(cell)
            observed = observed_of(cell, loaded)
            if self.before is not None:
                self.before.refuse_others(cell, loaded.source)
            rows = measure(
                loaded,
                cell,
                spec,
                base=self.task.base,
                trace_folder=trace_folder,
                observed=observed,
                nulls=self.nulls,
                command=command,
                progress=self.progress,
            )
        except ExitbenchError as error:
            reason = str(error)
        except Exception as error:  # whatever it is, the other cells are to be measured
            reason = _unexpected(error)
        else:
            return rows, observed
        return failed_rows(cell, spec, reason, observed, command=command), observed

    def _get(self, cell: Cell) -> LoadedModel:
        """The loaded model.

        Raises:
            ModelError: its weights are not those that the cells were planned for.
            Exception: whatever loading raised, now or before.
        """
        if self._failure is not None:
            raise self._failure
        if self._loaded is None:
            try:
                self._loaded = self._load(cell)
            except Exception as error:
                self._failure = error
                raise
        return self._loaded

    def _load(self, cell: Cell) -> LoadedModel:
        planned, loading = cell.model, self.task.spec.settings.loading
        loaded = load(planned.load_from, revision=planned.load_revision, progress=self.progress, **loading)
        for noun, hash_, now in (
            ("weights", planned.weights_sha256, loaded.source.weights_sha256),
            ("config or tokenizer", planned.config_sha256, loaded.source.config_sha256),
        ):
            if hash_ not in (None, now):
                raise ModelError(
                    f"the {noun} of {planned.source} changed while the study ran, or are others on this machine: the "
                    f"study was planned for {hash_[:12]}, here it is {str(now)[:12]}; run it again, with the same "
                    "files on all machines"
                )
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
