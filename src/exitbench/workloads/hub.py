"""Workloads from datasets on the Hugging Face hub: `ID[/CONFIG][:SPLIT]`.

A dataset has columns that we did not name, so one of `prompt`, `turns` and `text` is read, with `id`,
`category` and (but for texts) `reference` where present, and other columns are left alone. In a column of
texts, empty rows are passed over: they hold no token. Everything else is as strict as for files. The
`datasets` library keeps what it has downloaded; from version 4 on, which the extra asks for, it executes
nothing that a dataset brings along.
"""

import importlib
import re
from pathlib import Path
from typing import Any

from exitbench.errors import WorkloadError
from exitbench.workloads.rows import sample_from_row
from exitbench.workloads.workload import Workload

__all__ = ["load_hub"]

_CONTENT = ("prompt", "turns", "text")
# a leading dot is refused: `..` would name a folder of this machine
_ADDRESS = re.compile(r"(?P<id>\w[\w.-]*(/\w[\w.-]*)?)(/(?P<config>\w[^/:]*))?(:(?P<split>.+))?", re.ASCII)


def load_hub(address: str) -> Workload:
    """Load a workload from a dataset.

    Args:
        address: `ID[/CONFIG][:SPLIT]`, ID being `OWNER/NAME`, or `NAME` for the few without an owner (then no
            CONFIG can be given). The split may be left out where there is only one.

    Raises:
        WorkloadError: malformed address, missing `datasets`, no such dataset or split, or no usable column.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise WorkloadError(f"hub:{address} is malformed; expected hub:OWNER/NAME[/CONFIG][:SPLIT]")
    if Path(match["id"]).exists():  # datasets would read it in place of the hub's
        raise WorkloadError(f"hub:{address} is also a folder here; change to another working folder")
    dataset = _download(address, match["id"], match["config"], match["split"])
    content = [name for name in _CONTENT if name in dataset.column_names]
    if len(content) != 1:
        raise WorkloadError(
            f"hub:{address} has the columns {', '.join(dataset.column_names)}; expected exactly one of "
            f"{', '.join(_CONTENT)}; save the rows you want as JSON lines instead"
        )
    is_text = content == ["text"]
    extras = ("id", "category") if is_text else ("id", "category", "reference")
    columns = [*content, *(name for name in extras if name in dataset.column_names)]
    samples = []
    for number, row in enumerate(dataset.select_columns(columns), start=1):
        if is_text and str(row["text"] or "").strip() == "":
            continue
        try:
            present = {key: value for key, value in row.items() if value is not None}
            samples.append(sample_from_row(present, default_id=str(number)))
        except WorkloadError as error:
            raise WorkloadError(f"hub:{address}: row {number}: {error}") from error
    return Workload(
        name=match["id"],
        version=_version(dataset),
        licence=dataset.info.license or None,
        kind="text" if is_text else "prompts",
        samples=tuple(samples),
    )


def _version(dataset: Any) -> str:
    version = str(dataset.info.version or "0.0.0")
    return "unversioned" if version == "0.0.0" else version  # datasets' own word for "none given"


def _download(address: str, dataset_id: str, config: str | None, split: str | None) -> Any:
    try:
        datasets = importlib.import_module("datasets")
    except ModuleNotFoundError as error:
        if error.name != "datasets":
            raise
        raise WorkloadError(
            "workloads of the form hub:ID need the datasets library; run: pip install 'exitbench[hub-data]'"
        ) from error
    try:
        if split is None:
            splits = datasets.get_dataset_split_names(dataset_id, config)
            if len(splits) != 1:
                raise ValueError(f"it has the splits {', '.join(splits)}; choose one by adding :{splits[0]}")
            split = splits[0]
        return datasets.load_dataset(dataset_id, config, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise WorkloadError(f"cannot load hub:{address}: {reason}") from error
