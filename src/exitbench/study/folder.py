"""The folder of a study: its spec, a file of rows for each cell that was tried, and scratch.

    spec.yaml                the spec of the last run, as it was written
    cells/<cell>.parquet     the rows of a cell, or the one row that says why it failed
    work/<cell>/trace        trace of a cell in work, with which a killed run goes on; gone once the rows are there
    traces/<cell>            the same where the spec keeps traces
    stale/<cell>.parquet     rows of weights, prompts or lenses that have changed on disk since
    stale/<cell>             the trace behind them where the spec keeps traces
    run.json                 what the last run did, and what it cost
    finding.json, .md        what came of the claim, of a run that went to its end
    plan.json                the cells that are planned (`planned`)

Every file has its name only when it is complete.
"""

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pydantic

from exitbench.errors import ModelError, StudyError
from exitbench.files import replacing, write_json
from exitbench.models.source import ModelSource
from exitbench.study.cells import Cell, StudiedModel
from exitbench.study.factors import Observed, words_of
from exitbench.study.results import CELLS, FINDING_FILE, FINDING_PAGE, SPEC_FILE, read_table
from exitbench.study.rows import SCHEMA, Row, write_rows
from exitbench.study.spec import StudySpec, read_spec, why_another_study

__all__ = ["Failure", "MeasuredWeights", "StudyFolder"]

_OBSERVED = "exitbench.observed"
_OUTCOME = ["status", "figure"]
"""Columns that say whether a cell failed."""
_REMOVERS = 8
"""Threads that remove scratch: a disk that is waited for at each of a thousand small files takes seconds otherwise."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A cell that could not be measured."""

    cell: str
    name: str
    """For people."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class MeasuredWeights:
    """The weights that a cell was measured on."""

    cell: str
    weights_sha256: str | None
    config_sha256: str | None
    commit: str | None

    def refuse_others(self, cell: Cell, source: ModelSource) -> None:
        """Hold the weights of a cell against these.

        A branch of the hub may move between two runs, and no name of a cell tells.

        Args:
            cell: of the same model, about to be measured.
            source: of its weights.

        Raises:
            ModelError: they differ.
        """
        if (source.weights_sha256, source.config_sha256) != (self.weights_sha256, self.config_sha256):
            raise ModelError(
                f"{cell.model.name} moved: here it is {_named(source.revision, source.weights_sha256)}, and cell "
                f"{self.cell} was measured on {_named(self.commit, self.weights_sha256)}; give one of the two commits "
                "as its revision, or delete that model's cells and run with --retry-failed"
            )


class StudyFolder:
    """A folder of results of one study.

    Args:
        path: the folder; made by the first write.
        spec: of the study that is about to run.

    Raises:
        StudyError: it holds another study, or something else.
    """

    def __init__(self, path: Path, spec: StudySpec) -> None:
        self.path = path
        self._spec = spec
        self._cells_of: dict[tuple[str, str | None], list[Cell]] = {}
        if self._spec_file.is_file():
            if why := why_another_study(read_spec(self._spec_file), spec):
                raise StudyError(f"{path} holds another study: {why}; choose another --out folder")
        elif path.exists() and (not path.is_dir() or any(not file.name.startswith(".") for file in path.iterdir())):
            raise StudyError(f"{path} exists and holds no study; give an empty or new folder with --out")

    @property
    def _spec_file(self) -> Path:
        return self.path / SPEC_FILE

    def rows_of(self, cell: str) -> Path:
        """The file of a cell's rows."""
        return self.path / CELLS / f"{cell}.parquet"

    def trace_of(self, cell: Cell) -> Path:
        """Where a cell's trace is written."""
        return self.path / "traces" / cell.id if self._spec.keep_traces else self.path / "work" / cell.id / "trace"

    def begin(self, spec_text: bytes, cells: Sequence[Cell]) -> None:
        """Note the spec, and bring what is there in line with it: words of rows, stale cells, scratch of dead runs.

        A finding goes: it was of the rows as they were, and is judged again at the end of the run.

        Raises:
            StudyError: rows that are of another cell, or do not say what was observed of their model.
            ReportError: rows that cannot be read.
        """
        found = (self.path / FINDING_FILE, self.path / FINDING_PAGE)
        for file in (*self.path.glob(".*.tmp"), *self.path.glob(f"{CELLS}/.*.tmp"), *found):
            file.unlink(missing_ok=True)
        if not self._spec_file.is_file() or self._spec_file.read_bytes() != spec_text:
            with replacing(self._spec_file) as temporary:
                temporary.write_bytes(spec_text)
        self._cells_of = {}
        for cell in cells:
            self._cells_of.setdefault(_asked_for(cell.model), []).append(cell)
        planned = {cell.id: cell for cell in cells}
        for file in sorted((self.path / CELLS).glob("*.parquet")):
            if file.stem in planned:
                table = read_table(file)
                self._refresh(file, table, planned[file.stem])
                if not _has_failed(table):
                    self._tidy(file.stem)
            else:
                self._set_aside(file)
        for trace in (self.path / "traces").glob("*"):
            if trace.name not in planned:
                self._set_aside(trace)
        for scratch in (self.path / "work").glob("*"):
            if scratch.name not in planned:
                self._tidy(scratch.name)

    def _set_aside(self, path: Path) -> None:
        """Move what is of no cell any more to the stale ones, in place of what has that name there."""
        target = self.path / "stale" / path.name
        target.parent.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        path.replace(target)

    def _refresh(self, file: Path, table: pa.Table, cell: Cell) -> None:
        """Rewrite the rows of a file whose words are no longer those of the spec."""
        there, words = self._words(file, table, cell)
        if there == words:
            return
        for name, word in words.items():
            field, value = SCHEMA.field(name), sorted(word.items()) if name == "tags" else word
            column = pa.array([value] * len(table), field.type)
            table = table.set_column(SCHEMA.get_field_index(name), field, column)
        with replacing(file) as temporary:
            pq.write_table(table, temporary, compression="zstd")

    def _words(self, file: Path, table: pa.Table, cell: Cell) -> tuple[dict[str, Any], dict[str, Any]]:
        if (held := table["cell"][0].as_py()) != cell.id:
            raise StudyError(f"{file} holds the rows of cell {held}; delete it and run the study again")
        words = words_of(cell, self._spec.name, _observed(file, table))
        there = table.slice(0, 1).to_pylist()[0]
        return {name: dict(there[name]) if name == "tags" else there[name] for name in words}, words

    def words(self, cell: Cell) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the rows of a cell that was tried say of its model, and what they are to say by the spec of now."""
        file = self.rows_of(cell.id)
        columns = ["cell", *words_of(cell, self._spec.name, Observed())]
        return self._words(file, read_table(file, columns), cell)

    def failure(self, cell: Cell) -> Failure | None:
        """Why a cell that was tried failed; None for one that was measured."""
        table = read_table(self.rows_of(cell.id), [*_OUTCOME, "reason"])
        return Failure(cell=cell.id, name=cell.name, reason=table["reason"][0].as_py()) if _has_failed(table) else None

    def is_measured(self, cell: str) -> bool:
        """Whether a cell was tried and did not fail."""
        file = self.rows_of(cell)
        return file.is_file() and not _has_failed(read_table(file, _OUTCOME))

    def has_results(self) -> bool:
        """Whether anything was measured here, be it of weights that have changed since."""
        files = (*self.path.glob(f"{CELLS}/*.parquet"), *self.path.glob("stale/*.parquet"))
        return any(not _has_failed(read_table(file, _OUTCOME)) for file in files)

    def seconds(self, cell: Cell) -> float:
        """What a cell that was tried took."""
        return float(read_table(self.rows_of(cell.id), ["seconds"])["seconds"][0].as_py())

    def is_tried(self, cell: Cell) -> bool:
        """Whether a cell was measured or failed."""
        return self.rows_of(cell.id).is_file()

    def weights_of(self, model: StudiedModel) -> MeasuredWeights | None:
        """The weights that cells of a model were measured on; None if there are none yet."""
        hashes = ["weights_sha256", "config_sha256"]
        for cell in self._cells_of.get(_asked_for(model), ()):
            if not self.is_tried(cell):
                continue
            file = self.rows_of(cell.id)
            table = read_table(file, [*_OUTCOME, *hashes])
            if not _has_failed(table):
                weights, config = (table[name][0].as_py() for name in hashes)
                commit = _observed(file, table).commit
                return MeasuredWeights(cell=cell.id, weights_sha256=weights, config_sha256=config, commit=commit)
        return None

    def write(self, cell: Cell, rows: list[Row], observed: Observed) -> None:
        """Store the rows of a cell, and drop its scratch if it did not fail."""
        write_rows(self.rows_of(cell.id), rows, notes={_OBSERVED: observed.model_dump_json()})
        if rows[0].status != "failed":
            self._tidy(cell.id)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Note what a run did."""
        write_json(self.path / "run.json", dict(summary))

    def _tidy(self, cell: str) -> None:
        """Remove the scratch of a cell, and the folder of all scratch with the last of it; what resists stays there."""
        work = self.path / "work"
        with ThreadPoolExecutor(_REMOVERS) as pool:
            pool.map(Path.unlink, [path for path in (work / cell).rglob("*") if not path.is_dir()])
        shutil.rmtree(work / cell, ignore_errors=True)
        if work.is_dir() and not any(work.iterdir()):
            work.rmdir()


def _asked_for(model: StudiedModel) -> tuple[str, str | None]:
    """What a model is loaded by."""
    return model.source, model.load_revision


def _has_failed(table: pa.Table) -> bool:
    """Whether rows are the one that says why there are no others."""
    return (table["status"][0].as_py(), table["figure"][0].as_py()) == ("failed", "cell")


def _observed(file: Path, table: pa.Table) -> Observed:
    """What was noted beside the rows of a file."""
    try:
        return Observed.model_validate_json((table.schema.metadata or {})[_OBSERVED.encode()])
    except (KeyError, pydantic.ValidationError) as error:
        raise StudyError(
            f"{file} does not say what was observed of its model ({_OBSERVED} in its metadata), as if another program "
            "had written it anew; delete it and run the study again"
        ) from error


def _named(commit: str | None, weights_sha256: str | None) -> str:
    """Weights and what comes with them, for people."""
    return f"commit {commit or 'unknown'} (weights {str(weights_sha256)[:12]})"
