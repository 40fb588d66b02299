"""Folders of studies, read as findings to be judged."""

import pytest

from exitbench.errors import ReportError, StudyError
from exitbench.study.cases import read_cases
from exitbench.study.rows import write_rows
from result_rows import model_row

SPEC = """\
name: {name}
title: Kinds at one size
workloads: [text.txt]
models: [a, b]
"""
FINDING = """\
finding:
  question: kinds
  claim: dense keeps more
  on: text
  smallest_effect: 0.02
  cluster: null
"""


def _study(folder, name="kinds", finding=FINDING, value=0.3):
    write_rows(folder / "cells" / "a.parquet", [model_row("a", value, kind="dense")])
    (folder / "spec.yaml").write_text(SPEC.format(name=name) + finding, encoding="utf-8")
    return folder


def test_each_folder_is_judged_by_its_own_spec(tmp_path):
    """The rows of one study judged by the section of another."""
    one, two = _study(tmp_path / "one", "kinds"), _study(tmp_path / "two", "sizes", FINDING.replace("kinds", "size"))
    first, second = read_cases([one, two])
    assert (first.study, first.title, first.spec.question) == ("kinds", "Kinds at one size", "kinds")
    assert (first.spec.on, first.spec.cluster) == ("text", None)
    assert (second.study, second.spec.question) == ("sizes", "size")
    assert len(first.rows) == len(second.rows) == 1, "a model of two studies is part of both"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder.mkdir() or folder, "it has no spec.yaml"),
        (lambda folder: _study(folder, finding=""), "asks for no finding"),
        (lambda folder: _study(folder, finding=FINDING.replace("claim", "clam")), "did you mean 'claim'?"),
    ],
)
def test_folders_that_are_no_case(tmp_path, make, words):
    """A traceback, or a finding by default values, where a folder holds no question."""
    with pytest.raises(StudyError) as refused:
        read_cases([make(tmp_path / "x")])
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_one_study_given_twice(tmp_path):
    """The same claim counted twice in the correction for many."""
    with pytest.raises(StudyError, match="are both of study kinds"):
        read_cases([_study(tmp_path / "one"), _study(tmp_path / "two")])


def test_studies_that_contradict_one_another(tmp_path):
    """One model with two numbers, each of them in a table."""
    folders = [_study(tmp_path / "one", "kinds", value=0.3), _study(tmp_path / "two", "sizes", value=0.4)]
    with pytest.raises(ReportError, match="two rows of one identity"):
        read_cases(folders)
