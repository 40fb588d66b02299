"""Where each cell of a study's page comes from: what its numbers were made with, and what it can be chosen by.

Commands and versions are the same for most cells, so that texts travel once and cells point at them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from exitbench.report.study_cells import Cell
from exitbench.report.text import visible
from exitbench.study.of_result import SINGLE
from exitbench.study.rows import Row

__all__ = ["FILTERS", "Origins", "in_order", "levels_of", "origins_of"]

_MADE = (
    ("command", "command"),
    ("study", "study"),
    ("cell", "cell"),
    ("source", "model loaded from"),
    ("revision", "revision"),
    ("weights_sha256", "weights, sha256"),
    ("config_sha256", "config, sha256"),
    ("workload", "workload"),
    ("workload_sha256", "workload, sha256"),
    ("on", "on"),
    ("readout", "readout"),
    ("dtype", "dtype"),
    ("attention", "attention"),
    ("device", "device"),
    ("chat_template", "chat template"),
    ("max_new_tokens", "new tokens at most"),
    ("document_tokens", "tokens a document"),
    ("limit", "prompts at most"),
    ("seed", "seed"),
    ("libraries", "libraries"),
    ("created", "made"),
)
"""Column of a row -> what the page calls it, in the order in which they are read."""
FILTERS = ("kind", "stage", "size", "workload", "readout")
_SIZES = ((1, "up to 1 B"), (7, "1 to 7 B"), (20, "7 to 20 B"))
"""Upper ends, in 10**9 active parameters."""
_LARGER = "over 20 B"
_NOT_KNOWN = "not known"
_LAST = [*(text for _, text in _SIZES), _LARGER, _NOT_KNOWN]
_AGAIN = "to measure this cell alone"


@dataclass(frozen=True, kw_only=True)
class Origins:
    """Texts, and which of them say how each cell was made."""

    names: list[str]
    """Of what is told."""
    texts: list[str]
    cells: list[list[int | None]]
    """For every cell the place in `texts` of each of `names`; None is not known."""
    others: dict[int, dict[str, list[int | None]]]
    """Cell -> figure or policy -> the same, where it was made by another study or run than the cell's first figure."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return vars(self)


def origins_of(cells: Sequence[Cell]) -> Origins:
    """How cells were made, in the order given."""
    places: dict[str, int] = {}
    made = [_made(cell.first, places) for cell in cells]
    others = {index: _others(cell, places) for index, cell in enumerate(cells)}
    return Origins(
        names=[*(name for _, name in _MADE), _AGAIN],
        texts=[visible(text) for text in places],
        cells=made,
        others={index: found for index, found in others.items() if found},
    )


def levels_of(cell: Cell) -> tuple[str, ...]:
    """The level of a cell in each of `FILTERS`, as it was recorded."""
    row = cell.first
    size = row.active_params_b if row.active_params_b is not None else row.total_params_b
    return (row.kind or _NOT_KNOWN, row.stage or _NOT_KNOWN, _size(size), cell.workload, row.readout)


def in_order(levels: Iterable[str]) -> list[str]:
    """Levels of one filter, each once: by name, sizes from small to large, what is not known last."""
    return sorted(set(levels), key=lambda level: (_LAST.index(level) if level in _LAST else -1, level))


def _others(cell: Cell, places: dict[str, int]) -> dict[str, list[int | None]]:
    apart = {name: row for name, row in cell.origins.items() if not _together(row, cell.first)}
    return {visible(name): _made(row, places) for name, row in apart.items()}


def _made(row: Row, places: dict[str, int]) -> list[int | None]:
    return [_place(told, places) for told in (*_columns(row), _again(row))]


def _together(row: Row, other: Row) -> bool:
    """Whether two rows of one cell were written by one run."""
    return (row.study, row.cell, row.command, row.created) == (other.study, other.cell, other.command, other.created)


def _columns(row: Row) -> Iterator[object]:
    for column, _ in _MADE:
        yield None if row.study == SINGLE and column in ("study", "cell") else getattr(row, column)


def _again(row: Row) -> str | None:
    if row.study == SINGLE:
        return None  # the command does just that
    return f"delete cells/{row.cell}.parquet from the folder of the study and run the command again"


def _size(billions: float | None) -> str:
    if billions is None:
        return _NOT_KNOWN
    return next((text for most, text in _SIZES if billions <= most), _LARGER)


def _place(value: object, places: dict[str, int]) -> int | None:
    return None if value is None else places.setdefault(str(value), len(places))
