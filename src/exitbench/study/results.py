"""Reading the rows that studies left, strictly.

A file that is no Parquet, that broke off, that lacks a column or has one more is refused by name: a study from which
one cell was dropped in silence would still give figures. The same figure measured twice may be there twice, with the
same numbers; with different ones it is refused, and both are shown.

Non-goals: choosing among rows, and computing anything with them.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from exitbench.errors import ReportError
from exitbench.plain import plain
from exitbench.study.rows import SCHEMA, Row, Status

__all__ = ["CELLS", "IDENTITY", "MEASURED", "SPEC_FILE", "read_rows", "read_studies", "rows_of_file"]

CELLS = "cells"
"""Folder of a study in which its cells lie, one Parquet file each."""
SPEC_FILE = "spec.yaml"
"""Beside them: what was studied."""
IDENTITY = (
    *("model", "source", "revision", "weights_sha256", "config_sha256", "workload", "workload_sha256", "on", "readout"),
    *("dtype", "attention", "device", "chat_template", "max_new_tokens", "document_tokens", "limit", "seed"),
    "libraries",
)
"""Columns that decide the numbers: what was measured, on what, and how."""
MEASURED = ("figure", "variant", "target", "depth", "other_depth", "at")
"""Columns that say which number it is."""
_NUMBERS = ("status", "value", "low", "high", "n_tokens", "n_prompts")
_REQUIRED = tuple(f.name for f in fields(Row) if f.default is not None and f.name != "tags")


def read_rows(paths: Iterable[Path | str]) -> list[Row]:
    """Read the rows of studies into one list, each figure of one identity once; see `read_studies`."""
    rows: dict[tuple[Any, ...], Row] = {}
    for row in (row for study in read_studies(paths) for row in study):
        rows.setdefault(_key(row), row)
    return list(rows.values())


def read_studies(paths: Iterable[Path | str]) -> list[list[Row]]:
    """Read the rows of studies, each into a list of its own.

    Args:
        paths: of studies' folders, or of single files of rows.

    Returns:
        For each path its rows, in the order of the cells' names, each figure of one identity once.

    Raises:
        ReportError: a path that holds no rows, a file that cannot be read whole, or two rows of one identity with
            different numbers, be it in two studies.
    """
    seen: dict[tuple[Any, ...], tuple[Row, Path]] = {}
    studies = []
    for path in paths:
        own: dict[tuple[Any, ...], Row] = {}
        for file in _files(Path(path)):
            for row in rows_of_file(file):
                first, where = seen.setdefault(_key(row), (row, file))
                if _numbers(first) != _numbers(row):
                    raise ReportError(_conflict(first, where, row, file))
                own.setdefault(_key(row), row)
        studies.append(list(own.values()))
    return studies


def rows_of_file(path: Path) -> list[Row]:
    """Read one file of rows.

    Raises:
        ReportError: no Parquet, broken off, or not of this schema; one line that names the file.
    """
    try:
        table = pq.ParquetFile(path).read()
    except OSError as error:
        raise ReportError(f"cannot read {plain(str(path))}: {plain(str(error.strerror or error))}") from error
    except pa.ArrowException as error:
        why = plain(str(error))[:120]
        raise ReportError(f"{plain(str(path))} is no whole Parquet file ({why}); delete it and run it again") from error
    problem = _other_schema(table.schema)
    if problem is not None:
        raise ReportError(f"{plain(str(path))}: {problem}")
    return [_row(values, path) for values in table.to_pylist()]


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    cells = sorted((path / CELLS).glob("*.parquet"))
    if not cells:
        what = "there is no such folder" if not path.is_dir() else f"it has no {CELLS}/*.parquet"
        raise ReportError(f"{plain(str(path))} is no study: {what}; give the --out folder of 'exitbench study'")
    yield from cells


def _other_schema(schema: pa.Schema) -> str | None:
    """What differs from the columns that rows have."""
    if missing := [name for name in SCHEMA.names if name not in schema.names]:
        return f"no column {', '.join(missing)}; it was not written by 'exitbench study', or by an older one: run again"
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


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in (*IDENTITY, *MEASURED))


def _numbers(row: Row) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in _NUMBERS)


def _conflict(first: Row, where: Path, second: Row, here: Path) -> str:
    what = " ".join(str(value) for name in MEASURED if (value := getattr(first, name)) is not None)
    revision = "" if first.revision is None else f" at {first.revision}"
    subject = plain(f"{what} of {first.model}{revision} on {first.workload}")
    both = " and ".join(f"{_shown(row)} in {plain(str(file))}" for row, file in ((first, where), (second, here)))
    return f"two rows of one identity with different numbers: {subject} is {both}; delete the cell that is wrong"


def _shown(row: Row) -> str:
    if row.value is None:
        return f"missing ({plain(row.reason or 'no reason given')})"
    interval = "" if row.low is None or row.high is None else f" [{row.low!r}, {row.high!r}]"
    return f"{row.value!r}{interval} (n = {row.n_tokens} tokens, {row.n_prompts} prompts)"
