"""Workloads from files: JSON lines, and plain text.

A line ends at a line feed and nowhere else: U+2028 and its like are ordinary characters inside a JSON string.
Plain text stays exactly as it is in the file, line ends included, for they decide the tokens. A byte-order
mark, which some editors write, is no part of the content.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from exitbench.errors import WorkloadError
from exitbench.workloads.rows import KIND_OF_FORMAT, Format, format_of, sample_from_row
from exitbench.workloads.workload import Kind, Sample, Workload

__all__ = ["FILE_LOADERS", "parse_jsonl"]


def parse_jsonl(data: bytes, *, source: str) -> tuple[Kind, tuple[Sample, ...]]:
    """Decode JSON lines into samples; a sample without an id gets the number of its line.

    Args:
        data: content of the file.
        source: what messages call it, e.g. its path.

    Returns:
        Kind of the workload, and its samples in the order of the lines.

    Raises:
        WorkloadError: with source and line number, whatever is wrong with the line.
    """
    lines = _decode(data, source=source).removesuffix("\n").split("\n")
    if lines == [""]:
        raise WorkloadError(f"{source} is empty; expected one JSON object a line")
    samples: list[Sample] = []
    line_of_id: dict[str, int] = {}
    file_format: Format | None = None
    for number, line in enumerate(lines, start=1):
        try:
            row = _parse_line(line)
            file_format = file_format or format_of(row)
            if format_of(row) != file_format:
                raise WorkloadError(f"a row of {format_of(row)} in a file of {file_format}; split the file")
            sample = sample_from_row(row, default_id=str(number))
            first = line_of_id.setdefault(sample.id, number)
            if first != number:
                raise WorkloadError(f"id {sample.id!r} was used on line {first} already; make ids unique")
        except WorkloadError as error:
            raise WorkloadError(f"{source}:{number}: {error}") from error
        samples.append(sample)
    assert file_format is not None
    return KIND_OF_FORMAT[file_format], tuple(samples)


def _load_jsonl(path: Path) -> Workload:
    kind, samples = parse_jsonl(_read(path), source=str(path))
    return Workload(name=path.stem, version="unversioned", licence=None, kind=kind, samples=samples)


def _load_text(path: Path) -> Workload:
    text = _decode(_read(path), source=str(path))
    if not text.strip():
        raise WorkloadError(f"{path} is empty; expected some text")
    sample = Sample(id="text", category="text", turns=(text,))
    return Workload(name=path.stem, version="unversioned", licence=None, kind="text", samples=(sample,))


FILE_LOADERS: dict[str, Callable[[Path], Workload]] = {
    ".jsonl": _load_jsonl,
    ".txt": _load_text,
    ".md": _load_text,
}
"""Loader by file suffix."""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WorkloadError(f"cannot read {path}: {error.strerror or error}; give a readable file") from error


def _decode(data: bytes, *, source: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise WorkloadError(
            f"{source}:{line}: byte 0x{data[error.start]:02x} is not UTF-8; save the file in that encoding"
        ) from error


def _parse_line(line: str) -> dict[str, Any]:
    if not line.strip():
        raise WorkloadError("the line is blank; remove it")
    try:
        row = json.loads(line, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        raise WorkloadError(f"not JSON at column {error.colno} ({error.msg}); expected one object") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets without end
        raise WorkloadError(f"JSON that cannot be read ({error}); expected one object") from error
    if not isinstance(row, dict):
        raise WorkloadError(f'the line holds a JSON {type(row).__name__}; expected an object such as {{"prompt": ..}}')
    return row


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise WorkloadError("a key occurs twice in one object; keep one of them")
    return row
