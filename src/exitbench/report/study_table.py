"""The tables of a study's page: what every cell measured, and which cells failed."""

from collections.abc import Sequence
from dataclasses import dataclass

from exitbench.report.study_cells import Cell, finite
from exitbench.report.study_origin import levels_of
from exitbench.report.study_payload import compact, revision_text, when

__all__ = ["Entry", "TableRow", "failures", "headings", "table_rows"]

_PER_CHARACTER = "bits_per_character"
_COLUMNS = (
    ("ees", "EES"),
    ("ees_star", "EES*"),
    ("aes_1pct", "AES(1 %)"),
    ("aes_5pct", "AES(5 %)"),
    (_PER_CHARACTER, "bits per character"),
)
_NO_ROW = "not among what was measured"
_NO_REASON = "no reason was recorded"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One figure of the table."""

    name: str
    """Of the figure."""
    figure: str
    """As its heading says."""
    text: str
    """Its value; "n/a" where there is none."""
    sort: str
    """Its value for sorting; empty where there is none."""
    interval: str = ""
    """"none" where there is a value without one."""
    reason: str = ""
    """Why there is no value, or no interval."""


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One cell as the template reads it; every text is as it was recorded."""

    model: str
    facts: str
    """Kind, stage and size, as far as known."""
    checkpoint: str
    step: str
    """For sorting."""
    workload: str
    readout: str
    entries: tuple[Entry, ...]
    n_tokens: int | None
    n_prompts: int | None
    levels: tuple[str, ...]
    """See `study_origin.FILTERS`."""


def headings(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Of the figures that any of the cells may have, in the order of `TableRow.entries`."""
    return tuple(title for _, title in _columns(cells))


def table_rows(cells: Sequence[Cell]) -> list[TableRow]:
    """A row for every cell that has figures, in the order given."""
    columns = _columns(cells)
    return [_table_row(cell, columns) for cell in cells if cell.failure is None]


def failures(cells: Sequence[Cell]) -> list[tuple[str, str, str, str]]:
    """Model, checkpoint, workload and reason of every cell that failed."""
    return [(c.first.model, _checkpoint(c), c.workload, c.failure) for c in cells if c.failure is not None]


def _columns(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """Those that any of the cells may have."""
    on_text = any(cell.value(_PER_CHARACTER) is not None for cell in cells)
    return [(figure, title) for figure, title in _COLUMNS if on_text or figure != _PER_CHARACTER]


def _table_row(cell: Cell, columns: Sequence[tuple[str, str]]) -> TableRow:
    row, ees = cell.first, cell.plain.get("ees")
    sizes = ((row.active_params_b, "active"), (row.total_params_b, "in all"))
    size = next((f"{compact(billions * 1e9)} {what}" for billions, what in sizes if billions is not None), None)
    facts = (row.kind, row.stage, size)
    return TableRow(
        model=row.model,
        facts=", ".join(fact for fact in facts if fact is not None),
        checkpoint=_checkpoint(cell),
        step="" if not cell.is_checkpoint else str(row.step if row.step is not None else row.tokens_seen),
        workload=cell.workload,
        readout=row.readout,
        entries=tuple(_entry(cell, figure, title) for figure, title in columns),
        n_tokens=None if ees is None else ees.n_tokens,
        n_prompts=None if ees is None else ees.n_prompts,
        levels=levels_of(cell),
    )


def _entry(cell: Cell, figure: str, title: str) -> Entry:
    row, value = cell.plain.get(figure), cell.value(figure)
    if row is None or value is None:
        return Entry(
            name=figure,
            figure=title,
            text="n/a",
            sort="",
            reason=_NO_ROW if row is None else row.reason or _NO_REASON,
        )
    low, high = finite(row.low), finite(row.high)
    known = low is not None and high is not None
    interval = " ".join(filter(None, [f"[{low:.3f}, {high:.3f}]", cell.level])) if known else "[none]"
    reason = "" if known else row.reason or _NO_REASON
    return Entry(name=figure, figure=title, text=f"{value:.3f}", sort=f"{value:.6g}", interval=interval, reason=reason)


def _checkpoint(cell: Cell) -> str:
    return ", ".join(when(cell)) or revision_text(cell.first.revision)
