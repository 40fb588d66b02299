"""One part file: the rows of one sample, as Parquet with list columns over depth.

Columns: sample_id, category, turn, position, input_id, target_id, final_id, decision_depth, then one list column a
signal with L + 1 entries. Undefined entries (a cosine to the depth before depth 0) are null. A fast trace has no list
columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from exitbench.errors import CorruptTraceError
from exitbench.files import replacing
from exitbench.trace.decision import decision_depths
from exitbench.trace.table import SampleInfo

__all__ = ["Rows", "read_part", "write_part"]

_SCALARS = {
    "turn": np.int16,
    **dict.fromkeys(("position", "input_id", "target_id", "final_id", "decision_depth"), np.int32),
}


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of one sample: N tokens, L blocks."""

    turn: NDArray[np.int16]
    """(N,)"""
    position: NDArray[np.int32]
    """(N,)"""
    input_id: NDArray[np.int32]
    """(N,)"""
    target_id: NDArray[np.int32]
    """(N,)"""
    final_id: NDArray[np.int32]
    """(N,)"""
    decision_depth: NDArray[np.int32]
    """(N,)"""
    signals: dict[str, NDArray[np.generic]]
    """Name -> (N, L + 1)."""

    @classmethod
    def joined(cls, parts: Sequence["Rows"]) -> "Rows":
        """All rows of `parts`, which hold the same signals, one part after the other."""
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _SCALARS}
        signals = {name: np.concatenate([part.signals[name] for part in parts]) for name in parts[0].signals}
        return cls(**columns, signals=signals)


def _list_column(values: NDArray[np.generic]) -> "pa.Array[Any]":
    num_rows, width = values.shape
    flat = values.ravel()
    missing = np.isnan(flat) if np.issubdtype(flat.dtype, np.floating) else None
    offsets = pa.array(np.arange(num_rows + 1, dtype=np.int32) * width)
    return pa.ListArray.from_arrays(offsets, pa.array(flat, mask=missing))


def write_part(path: Path, sample: SampleInfo, rows: Rows) -> None:
    """Write one sample's rows, atomically; the same rows give the same bytes."""
    num_rows = len(rows.position)
    columns: dict[str, pa.Array[Any]] = {
        "sample_id": pa.array([sample.id] * num_rows, pa.string()),
        "category": pa.array([sample.category] * num_rows, pa.string()),
    }
    columns |= {name: pa.array(getattr(rows, name).astype(dtype)) for name, dtype in _SCALARS.items()}
    columns |= {name: _list_column(values) for name, values in rows.signals.items()}
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd")


def read_part(path: Path, sample: SampleInfo, num_blocks: int) -> Rows:
    """Read the part of one sample.

    Raises:
        CorruptTraceError: not readable as Parquet, no rows or those of another sample, a column missing, lists of
            another length than L + 1, or decisions that are not those of the recorded top-1 ids.
    """
    try:
        # Only `read_table` on an open file keeps pyarrow from treating the folder's name as partition keys.
        with path.open("rb") as file:
            table = pq.read_table(file)
        if table.num_rows == 0:
            raise ValueError("it has no rows")
        for name, value in (("sample_id", sample.id), ("category", sample.category)):
            if table.column(name).unique().to_pylist() != [value]:
                raise ValueError(f"its {name} is not {value!r} throughout")
        # Where a number is missing, pyarrow gives floats, which are no safe integers.
        scalars = {name: table.column(name).to_numpy().astype(d, casting="safe") for name, d in _SCALARS.items()}
        signals = {}
        for name in table.column_names:
            if pa.types.is_list(table.schema.field(name).type):
                lengths = pc.list_value_length(table.column(name)).to_numpy()
                if np.any(lengths != num_blocks + 1):
                    raise ValueError(f"{name} has lists of other lengths than {num_blocks + 1}")
                flat = pc.list_flatten(table.column(name)).to_numpy()
                signals[name] = flat.reshape(table.num_rows, num_blocks + 1)
        rows = Rows(**scalars, signals=signals)
        _refuse_contradictions(rows, num_blocks)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorruptTraceError(f"{path} cannot be read ({reason}); delete it and run the trace again") from error
    return rows


def _refuse_contradictions(rows: Rows, num_blocks: int) -> None:
    if rows.decision_depth.min() < 0 or rows.decision_depth.max() > num_blocks:
        raise ValueError(f"decision_depth is not within 0 to {num_blocks}")
    if "top1_id" in rows.signals:
        top1_id: NDArray[Any] = rows.signals["top1_id"]
        if np.any(rows.final_id != top1_id[:, -1]):
            raise ValueError("final_id is not the last top1_id throughout")
        if np.any(rows.decision_depth != decision_depths(top1_id)):
            raise ValueError("decision_depth is not that of top1_id throughout")
