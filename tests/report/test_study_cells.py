"""Cells on a page: rows that belong together stand together, whatever their studies call them."""

from dataclasses import replace

from exitbench.report.study_cells import cells_of
from exitbench.study.results import read_rows
from exitbench.study.rows import write_rows
from study_rows import cell_rows, failed


def figures(cell):
    return {*cell.plain, *cell.by_depth, *cell.by_pair}


def test_one_cell_of_two_studies(tmp_path):
    """A model of two studies split into two lines, each without the figures of the other."""
    rows = cell_rows(weights_sha256="ab" * 32)
    for name, figures_there in (("one", ("ees", "decided")), ("two", ("ees", "decided", "cka", "effective_rank"))):
        own = [replace(row, study=name, cell=f"id-of-{name}") for row in rows if row.figure in figures_there]
        write_rows(tmp_path / name / "cells" / "id.parquet", own)
    for order in (("one", "two"), ("two", "one")):
        (cell,) = cells_of(read_rows([tmp_path / name for name in order]))
        assert figures(cell) == {"ees", "decided", "cka", "effective_rank"}


def test_one_id_in_two_studies():
    """A cell that failed in one study hiding what another one measured."""
    rows = [failed("out of memory", study="one"), *cell_rows(study="two")]
    broken, whole = sorted(cells_of(rows), key=lambda cell: cell.failure is None)
    assert (broken.failure, figures(broken)) == ("out of memory", set())
    assert "ees" in figures(whole)


def test_two_labels_are_two_cells():
    """A model that stands in two groups under two labels shown in one of them only."""
    rows = [row for label in "ab" for row in cell_rows(model=label, cell="a", weights_sha256="ab" * 32)]
    assert [cell.first.model for cell in cells_of(rows)] == ["a", "b"]
