"""What a study leaves: flat rows, one a figure, in one Parquet file a cell.

A row says what was measured (`figure`, and at which depth, for which policy), on what (identity), what is known of the
model (factors), and how it was made. Missing is null, and then `reason` says why; so it does for a value without an
interval. Imports no torch: results are read
where no model is.

Non-goals: computing figures, and comparing models.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from exitbench.files import replacing

__all__ = ["LEVEL_TAG", "SCHEMA", "Row", "Status", "write_rows"]

Status = Literal["ok", "missing", "failed"]
"""A figure with a value; a figure that does not exist here; a cell that could not be measured."""
LEVEL_TAG = "interval level"
"""Tag of a result whose intervals are at another level than 95 %, for it was measured to a precision."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure of one cell. `None` is not known or does not apply."""

    study: str
    """Name of the study."""
    cell: str
    """Which cell of it: the beginning of a hash over all that decides the numbers."""

    model: str
    """Label of the model, the same for all its checkpoints."""
    source: str
    """What `exitbench.api.load` was given."""
    revision: str | None = None
    """As asked for: a branch, tag or commit of the hub, or the folder's name of a local checkpoint."""
    weights_sha256: str | None = None
    config_sha256: str | None = None
    workload: str
    workload_sha256: str | None = None
    on: str | None = None
    """"answers" or "text"."""
    readout: str
    """"logit", or the name of a tuned lens."""
    dtype: str | None = None
    attention: str | None = None
    device: str | None = None
    chat_template: bool | None = None
    max_new_tokens: int | None = None
    document_tokens: int | None = None
    limit: int | None = None
    seed: int
    libraries: str | None = None
    """Versions that can change a number, as "name version, ...", sorted."""

    family: str | None = None
    generation: str | None = None
    release_month: str | None = None
    """YYYY-MM."""
    kind: str | None = None
    """"dense", "moe", "ssm" or "hybrid"."""
    stage: str | None = None
    """"base", "instruct" or "reasoning"."""
    total_params_b: float | None = None
    """In 10**9."""
    active_params_b: float | None = None
    num_blocks: int | None = None
    hidden_size: int | None = None
    vocab_size: int | None = None
    tied_head: bool | None = None
    """Whether the head is the embedding."""
    step: int | None = None
    """Of training, for a checkpoint."""
    tokens_seen: int | None = None
    """In training, as far as known."""
    tags: dict[str, str] = field(default_factory=dict)
    """What the spec says of the model beyond that."""

    status: Status
    figure: str
    """Name of what was measured; "cell" for the one row of a cell that failed."""
    variant: str | None = None
    """Which of several: a policy with its probes, a similarity, a seed."""
    target: str | None = None
    """What a policy was held to."""
    depth: int | None = None
    """Blocks executed, for a figure by depth."""
    other_depth: int | None = None
    """The second depth of a figure of two."""
    at: float | None = None
    """Place on any other axis: batch size, alpha."""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n_tokens: int | None = None
    """Behind the figure, which may be a draw of all."""
    n_prompts: int | None = None
    """That these come from."""
    unit: str | None = None
    reason: str | None = None
    """Why there is no value; where there is one, why it has no interval. Not what tells the two apart: `status` is."""

    command: str
    created: str
    """ISO 8601, UTC."""
    seconds: float | None = None
    """What the whole cell took, loading included."""


_TYPES: dict[str, pa.DataType] = {
    "str": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "Status": pa.string(),
}


def _type(annotation: Any) -> pa.DataType:
    name = annotation.__name__ if isinstance(annotation, type) else str(annotation).removesuffix(" | None")
    tags: pa.DataType = pa.map_(pa.string(), pa.string())
    return tags if name.startswith("dict") else _TYPES.get(name, pa.string())


SCHEMA = pa.schema([pa.field(f.name, _type(f.type)) for f in fields(Row)])
"""Columns of a file of rows, in the order of `Row`."""


def write_rows(path: Path, rows: list[Row], *, notes: Mapping[str, str] | None = None) -> None:
    """Write the rows of one cell, atomically; the same rows give the same bytes.

    Args:
        path: of the file.
        rows: of the cell.
        notes: kept as metadata of the file, for the next run; no part of the rows.
    """
    columns = {f.name: [getattr(row, f.name) for row in rows] for f in fields(Row)}
    columns["tags"] = [sorted(tags.items()) for tags in columns["tags"]]
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns, schema=SCHEMA.with_metadata(dict(notes or {}))), temporary, compression="zstd")
