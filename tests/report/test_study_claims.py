"""What studies that are reported on together claimed: each study's own record, and all of them judged as one."""

import json

import pytest

from exitbench.errors import ReportError
from exitbench.report.finding import markdown_findings
from exitbench.report.study_claims import read_claims
from exitbench.report.study_folders import report_studies
from exitbench.study.cases import read_cases
from exitbench.study.findings import judge_together
from exitbench.study.rows import write_rows
from findings import finding
from html_elements import Elements
from result_rows import model_row

SPEC = """\
name: {name}
title: Title of {name}
workloads: [text.txt]
models: [a, b]
finding:
  question: kinds
  claim: dense keeps more, in {name}
  on: text
  smallest_effect: 0.02
  cluster: null
"""


def study(folder, name, *, models=3, recorded=True):
    """A study with models of two kinds, and the finding that lies beside them."""
    for kind, base in (("dense", 0.5), ("moe", 0.2)):
        for i in range(models):
            label = f"{name}-{kind}-{i}"
            write_rows(folder / "cells" / f"{label}.parquet", [model_row(label, base + 0.01 * i, kind=kind)])
    (folder / "spec.yaml").write_text(SPEC.format(name=name))
    if recorded:
        (folder / "finding.json").write_text(json.dumps(finding(claim=f"own of {name}").to_json() | {"study": name}))
    return folder


@pytest.fixture
def two(tmp_path):
    return [study(tmp_path / name, name) for name in ("one", "two")]


def words(file):
    return " ".join(" ".join(Elements(file.read_text(encoding="utf-8")).words).split())


def test_claims_of_several_studies_are_judged_together(two, tmp_path):
    """Verdicts that 'exitbench findings' would not give, for each is corrected for itself alone; or other words."""
    claims = read_claims(two, alone=False)
    expected = judge_together(read_cases(two))
    assert list(claims.together) == expected
    assert {found.n_together for found in claims.together} == {2}
    assert [found.study for found in claims.own] == ["one", "two"]
    report_studies(two, tmp_path / "page.html")
    said = words(tmp_path / "page.html")
    for found in expected:
        assert f"{found.study}: {found.verdict}: {found.why}" in said
    assert "Holm over all comparisons of claims here (2)" in said
    tags = Elements((tmp_path / "page.html").read_text()).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids)), "a chart would be drawn from the numbers of another finding"
    assert {"finding-models-1", "finding-models-2"} <= set(ids)
    for own in ("own of one", "own of two", "The finding of one", "The finding of two"):
        assert own in said


def test_markdown_has_the_same(two, tmp_path):
    """A finding on the page and not in the text, or under the correction of another one."""
    report_studies(two, tmp_path / "all.md", form="md")
    text = (tmp_path / "all.md").read_text()
    assert "## Findings judged together" in text
    table = markdown_findings(judge_together(read_cases(two))).splitlines()[2:6]
    assert "\n".join(table) in text
    assert [line for line in text.splitlines() if line.startswith("## Finding of")] == [
        "## Finding of one",
        "## Finding of two",
    ]


def test_a_study_alone_keeps_its_own_words(two, tmp_path):
    """A correction for many where there is one."""
    claims = read_claims(two[:1], alone=True)
    assert (len(claims.own), claims.together, claims.not_together) == (1, (), "")
    report_studies(two[:1], tmp_path / "page.html")
    assert "The finding " in words(tmp_path / "page.html")
    assert "judged together" not in words(tmp_path / "page.html")


def test_what_cannot_be_judged_together_says_why(tmp_path):
    """A report that fails, or is silent, because one study was given in two parts."""
    parts = [study(tmp_path / "a", "one"), study(tmp_path / "b", "one", recorded=False)]
    assert report_studies(parts, tmp_path / "page.html") == 0
    assert "not judged together" in words(tmp_path / "page.html")
    assert "are both of study one" in words(tmp_path / "page.html")
    report_studies(parts, tmp_path / "all.md", form="md")
    assert "are both of study one" in (tmp_path / "all.md").read_text()


def test_a_record_that_broke_off(two):
    """A finding left out in silence."""
    (two[1] / "finding.json").write_text("{")
    with pytest.raises(ReportError, match=r"finding.json is no JSON"):
        read_claims(two, alone=False)
