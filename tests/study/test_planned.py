"""The record of what a study plans: kept as it was first, changed only where the plan is."""

import pytest

from exitbench.errors import StudyError
from exitbench.study.planned import PLAN_FILE, read_plan, write_plan
from study_rows import failed


def _rows(*names, **changes):
    return [failed("to do", cell=name, model=name, **changes) for name in names]


def _late(folder):
    return {planned.row.cell: planned.late for planned in read_plan(folder).cells}


def test_a_plan_comes_back_as_it_was(tmp_path):
    """A tag, a number or a null that is lost on the way; a folder without a plan that is refused."""
    assert read_plan(tmp_path) is None
    rows = _rows("a", "b", tags={"pair": "x"}, total_params_b=0.1, tied_head=False, step=3)
    write_plan(tmp_path, rows, has_results=False)
    assert [planned.row for planned in read_plan(tmp_path).cells] == rows
    assert [row.cell for row in read_plan(tmp_path).waiting(rows[:1])] == ["b"]


def test_what_was_planned_first_stays_so(tmp_path):
    """A model that turns late since the study was resumed, or early since it was resumed twice."""
    write_plan(tmp_path, _rows("a"), has_results=False)
    for _ in range(2):
        write_plan(tmp_path, _rows("a", "b"), has_results=True)
        assert _late(tmp_path) == {"a": False, "b": True}
    write_plan(tmp_path, _rows("b"), has_results=True)
    assert _late(tmp_path) == {"b": True}


def test_an_older_folder_does_not_know(tmp_path):
    """Models of a folder that noted nothing called early, or late."""
    write_plan(tmp_path, _rows("a"), has_results=True)
    write_plan(tmp_path, _rows("a", "b"), has_results=True)
    assert _late(tmp_path) == {"a": None, "b": True}


def test_a_plan_that_is_the_same_is_not_written_again(tmp_path):
    """A run that, killed after each file, never gets on; words of the spec that the plan does not follow."""
    write_plan(tmp_path, _rows("a"), has_results=False)
    before = (tmp_path / PLAN_FILE).stat().st_mtime_ns
    write_plan(tmp_path, _rows("a", created="2027-01-01T00:00:00Z"), has_results=True)
    assert (tmp_path / PLAN_FILE).stat().st_mtime_ns == before
    write_plan(tmp_path, _rows("a", kind="moe"), has_results=True)
    assert read_plan(tmp_path).cells[0].row.kind == "moe"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "but then it is not known which models were planned before there were results"),
        ('{"cells": [{"late": false}]}', "cells.0.row"),
        ('{"schema_version": 9, "cells": [], "colour": "red"}', "newer exitbench; upgrade"),
    ],
)
def test_a_plan_that_cannot_be_read(tmp_path, text, words):
    """A finding judged as if nothing more was planned, since the record broke off."""
    (tmp_path / PLAN_FILE).write_text(text)
    with pytest.raises(StudyError) as refused:
        read_plan(tmp_path)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
