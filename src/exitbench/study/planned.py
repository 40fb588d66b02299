"""What a study plans to measure, as a record beside its results, so that its finding is not judged on a part of it.

`plan.json` holds one row for each cell, with all that is known of its model before it is loaded, and whether the cell
was planned only after the study had results. It follows the spec whenever the study runs. Imports no torch: findings
are judged where no model is, and checkpoints are not listed again.

Non-goals: planning (`cells`), and judging (`findings`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pydantic
from pydantic import BaseModel, ConfigDict

from exitbench.errors import StudyError, first_problem
from exitbench.files import write_text
from exitbench.plain import plain
from exitbench.study.rows import Row

__all__ = ["PLAN_FILE", "Plan", "PlannedCell", "read_plan", "write_plan"]

PLAN_FILE = "plan.json"
"""In the folder of a study."""
_VERSION = 1


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Header(BaseModel):
    schema_version: int = _VERSION


class PlannedCell(_Record):
    """One cell."""

    late: bool | None = None
    """Whether it was planned when the study had results already; None where the exitbench that did so noted nothing."""
    row: Row
    """As if it had failed, so that whatever does not find the cell's own rows sees why."""


class Plan(_Record):
    """All cells of a study."""

    schema_version: int = _VERSION
    cells: tuple[PlannedCell, ...]

    def waiting(self, rows: Iterable[Row]) -> list[Row]:
        """The rows of cells that none of the measured `rows` is of."""
        there = {row.cell for row in rows}
        return [planned.row for planned in self.cells if planned.row.cell not in there]


def read_plan(folder: Path) -> Plan | None:
    """The plan of a study; None in a folder of an exitbench that left none.

    Raises:
        StudyError: it cannot be read.
    """
    file = folder / PLAN_FILE
    if not file.is_file():
        return None
    text = file.read_bytes()
    try:
        if _Header.model_validate_json(text).schema_version > _VERSION:
            raise StudyError(f"{plain(str(file))} was written by a newer exitbench; upgrade this one")
        return Plan.model_validate_json(text)
    except pydantic.ValidationError as error:
        why = plain(first_problem(error, "the file"))
        raise StudyError(
            f"{plain(str(file))} is no plan ({why}); delete it and run the study again, but then it is not known which "
            "models were planned before there were results"
        ) from error


def write_plan(folder: Path, rows: Sequence[Row], *, has_results: bool) -> None:
    """Note what is planned; what was planned before stays as old as it is.

    Args:
        folder: of the study.
        rows: one for each cell.
        has_results: whether the folder has any already, of these cells or of others.

    Raises:
        StudyError: there is a plan that cannot be read.
    """
    before = read_plan(folder)
    known = {planned.row.cell: planned for planned in before.cells} if before is not None else {}
    late = None if before is None and has_results else has_results
    cells = []
    for row in rows:
        if (old := known.get(row.cell)) is None:
            cells.append(PlannedCell(late=late, row=row))
        else:
            same = replace(row, command=old.row.command, created=old.row.created)
            cells.append(PlannedCell(late=old.late, row=same))
    if (plan := Plan(cells=tuple(cells))) != before:
        write_text(folder / PLAN_FILE, plan.model_dump_json(indent=1, exclude_none=True) + "\n")
