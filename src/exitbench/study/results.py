"""Reading the rows that studies left, strictly.

A file that is no Parquet, that broke off, that lacks a column or has one more is refused by name: a study from which
one cell was dropped in silence would still give figures. The same figure measured twice may be there twice, with the
same numbers; with different ones it is refused, and both are shown. What hashes identify is the same under any name:
labels, paths and revisions of the same weights, and names of the same prompts, hide no contradiction.

Non-goals: choosing among rows, and computing anything with them.
"""

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import fields
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from exitbench.errors import ReportError
from exitbench.plain import plain
from exitbench.study.rows import LEVEL_TAG, SCHEMA, Row, Status

__all__ = [
    "CELLS",
    "FINDING_FILE",
    "FINDING_PAGE",
    "IDENTITY",
    "MEASURED",
    "SPEC_FILE",
    "cell_key",
    "read_rows",
    "read_studies",
    "read_table",
    "rows_of_file",
]

CELLS = "cells"
"""Folder of a study in which its cells lie, one Parquet file each."""
SPEC_FILE = "spec.yaml"
"""Beside them: what was studied."""
FINDING_FILE = "finding.json"
"""What came of the claim, where there is one, and the same for people in `FINDING_PAGE`."""
FINDING_PAGE = "finding.md"
IDENTITY = (
    *("model", "source", "revision", "weights_sha256", "config_sha256", "workload", "workload_sha256", "on", "readout"),
    *("dtype", "attention", "device", "chat_template", "max_new_tokens", "document_tokens", "limit", "seed"),
    "libraries",
)
"""Columns that decide the numbers: what was measured, on what, and how."""
MEASURED = ("figure", "variant", "target", "depth", "other_depth", "at")
"""Columns that say which number it is."""
_NAMES_OF = {"weights_sha256": ("model", "source", "revision"), "workload_sha256": ("workload",)}
"""Column that settles what was measured -> columns that only name it then."""
_NUMBERS = ("status", "value", "low", "high", "n_tokens", "n_prompts")
_Seen = dict[tuple[Any, ...], tuple[Row, Path]]
_REQUIRED = tuple(f.name for f in fields(Row) if f.default is not None and f.name != "tags")


def cell_key(row: Row) -> tuple[Any, ...]:
    """What rows of one cell share, in whatever study and under whatever id: its names for people, and its identity.

    Studies name a cell by all that they measure in it, so that two of them have two ids for what is one cell here.
    """
    return (row.model, row.revision, row.workload, *_identity(row))


def read_rows(paths: Iterable[Path | str], *, beside: Iterable[tuple[Path, Row]] = ()) -> list[Row]:
    """Read the rows of studies into one list, each figure of one cell once; see `read_studies`.

    Args:
        paths: of studies' folders, or of single files of rows.
        beside: rows of other results, each with where it is from, held to the same.
    """
    return _once(_agreeing(chain(*map(_named_rows, map(Path, paths)), beside), {}))


def read_studies(paths: Iterable[Path | str]) -> list[list[Row]]:
    """Read the rows of studies, each into a list of its own.

    Args:
        paths: of studies' folders, or of single files of rows.

    Returns:
        For each path its rows, in the order of the cells' names, each figure of one cell once; see `cell_key`.

    Raises:
        ReportError: a path that holds no rows, a file that cannot be read whole, or two rows of one identity with
            different numbers, be it in two studies.
    """
    seen: _Seen = {}
    return [_once(_agreeing(_named_rows(Path(path)), seen)) for path in paths]


def rows_of_file(path: Path) -> list[Row]:
    """Read one file of rows.

    Raises:
        ReportError: no Parquet, broken off, or not of this schema; one line that names the file.
    """
    return [_row(values, path) for values in read_table(path).to_pylist()]


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read one file of rows as a table, whole or some of its columns.

    Raises:
        ReportError: as `rows_of_file`, and where there is no row.
    """
    try:
        with pq.ParquetFile(path) as file:
            schema, table = file.schema_arrow, file.read(columns)
    except (pa.ArrowException, OSError) as error:
        if number := getattr(error, "errno", None):
            raise ReportError(f"cannot read {plain(str(path))}: {os.strerror(number)}") from error
        raise ReportError(f"{plain(str(path))} is no whole Parquet file; delete it and run its study again") from error
    problem = _other_schema(schema) or ("" if len(table) else "no row; delete it and run its study again")
    if problem:
        raise ReportError(f"{plain(str(path))}: {problem}")
    return table


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    cells = sorted((path / CELLS).glob("*.parquet"))
    if not cells:
        what = "there is no such folder" if not path.is_dir() else f"it has no {CELLS}/*.parquet"
        raise ReportError(f"{plain(str(path))} is no study: {what}; give the --out folder of 'exitbench study'")
    yield from cells


def _named_rows(path: Path) -> Iterator[tuple[Path, Row]]:
    return ((file, row) for file in _files(path) for row in rows_of_file(file))


def _agreeing(named: Iterable[tuple[Path, Row]], seen: _Seen) -> Iterator[Row]:
    """The rows, refused where one says of an identity what another does not; `seen` grows by them."""
    for file, row in named:
        first, where = seen.setdefault((*_identity(row), *_place(row)), (row, file))
        if _numbers(first) != _numbers(row):
            raise ReportError(_conflict(first, where, row, file))
        yield row


def _other_schema(schema: pa.Schema) -> str | None:
    """What differs from the columns that rows have."""
    if missing := [name for name in SCHEMA.names if name not in schema.names]:
        lacking = f"no column {', '.join(missing)}; it was not written by 'exitbench study', or by an older one"
        return f"{lacking}: delete it and run its study again"
    if more := [plain(name) for name in schema.names if name not in SCHEMA.names]:
        return f"unknown column {', '.join(more)}; it was written by a newer exitbench: upgrade this one"
    for column in SCHEMA:
        if (got := schema.field(column.name).type) != column.type:
            return f"column {column.name} is {got}, expected {column.type}; it was not written by 'exitbench study'"
    return None


def _row(values: dict[str, Any], path: Path) -> Row:
    values["tags"] = dict(values["tags"] or ())
    if empty := [name for name in _REQUIRED if values[name] is None]:
        raise ReportError(f"{plain(str(path))}: a row without {', '.join(empty)}; run its study again")
    if values["status"] not in get_args(Status):
        got = plain(values["status"])
        raise ReportError(f"{plain(str(path))}: status is {got!r}, expected one of {', '.join(get_args(Status))}")
    for name in ("value", "low", "high", "at"):
        if values[name] is not None and not math.isfinite(values[name]):
            raise ReportError(
                f"{plain(str(path))}: {name} of {plain(values['figure'])} is {values[name]}, not a number"
            )
    if (values["value"] is None) == (values["status"] == "ok"):
        raise ReportError(
            f"{plain(str(path))}: {plain(values['figure'])} has status {values['status']} and value {values['value']}"
        )
    return Row(**values)


def _identity(row: Row) -> tuple[Any, ...]:
    """What decides the numbers: `IDENTITY`, but for what only names what a hash settles, and the intervals' level."""
    names = [name for settled, names in _NAMES_OF.items() if getattr(row, settled) is not None for name in names]
    decides = (None if name in names else getattr(row, name) for name in IDENTITY)
    return (*decides, row.tags.get(LEVEL_TAG))


def _place(row: Row) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in MEASURED)


def _once(rows: Iterable[Row]) -> list[Row]:
    """The first row of each figure of each cell."""
    first: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        first.setdefault((*cell_key(row), *_place(row)), row)
    return list(first.values())


def _numbers(row: Row) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in _NUMBERS)


def _conflict(first: Row, where: Path, second: Row, here: Path) -> str:
    what = plain(" ".join(str(value) for value in _place(first) if value is not None))
    both = " and ".join(f"{_shown(row)} in {plain(str(file))}" for row, file in ((first, where), (second, here)))
    return f"two rows of one identity with different numbers: {what} {both}; delete or leave out the one that is wrong"


def _shown(row: Row) -> str:
    revision = "" if row.revision is None else f" at {row.revision}"
    subject = plain(f"of {row.model}{revision} on {row.workload}")
    if row.value is None:
        return f"{subject} is missing ({plain(row.reason or 'no reason given')})"
    interval = "" if row.low is None or row.high is None else f" [{row.low!r}, {row.high!r}]"
    return f"{subject} is {row.value!r}{interval} (n = {row.n_tokens} tokens, {row.n_prompts} prompts)"
