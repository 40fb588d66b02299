"""Findings on models that failed, wait, fall short or lack what is compared."""

from dataclasses import replace

import pytest

from exitbench.study.findings import judge
from exitbench.study.planned import Plan, PlannedCell
from result_rows import DENSE, case, judged, model_row, models_of


def test_models_that_fall_short_leave_it_undecided():
    """Untrained models, all alike, taken for proof that kinds do not differ."""
    section = {"require": [{"factor": "tags.gain", "at_least": 1.0, "otherwise": "not trained"}]}
    rows = models_of(DENSE, tags={"gain": "1.5"})
    assert judged(rows, **section).verdict == "supported"
    poor = [*rows, model_row("moe-poor", 0.2, kind="moe", tags={"gain": "0.4"})]
    finding = judged(poor, **section)
    assert finding.verdict == "undecided"
    assert "moe-poor (not trained: tags.gain is 0.4, 1 is required)" in finding.why
    assert finding.models[-1].falls_short
    assert "is not known" in judged([*rows, model_row("moe-x", 0.2, kind="moe")], **section).why
    elsewhere = [*rows, model_row("hybrid", 0.2, kind="hybrid")]
    assert judged(elsewhere, **section).verdict == "supported", "a model that is not compared need not be trained"


def test_what_is_left_out_says_why():
    """A model that failed counted as one without potential, or dropped without a word."""
    rows = [
        *models_of(DENSE),
        model_row("failed", None, "cell", status="failed", reason="out of memory"),
        model_row("null", None, kind="moe"),
        model_row("hybrid", 0.1, kind="hybrid"),
        model_row("unknown", 0.1),
    ]
    finding = judged(rows)
    assert finding.verdict == "undecided", "what failed may decide it"
    assert {model.label: model.left_out for model in finding.models if model.left_out} == {
        "failed": "not measured: out of memory",
        "null": "no ees: there is none",
        "hybrid": "kind is hybrid, which is not compared",
        "unknown": "kind is not known",
    }
    assert finding.n_models == 6
    assert finding.why == "1 of 10 models failed: failed; 'exitbench study --retry-failed' tries again"
    assert not any("not measured" in caution for caution in finding.cautions), "it is said once"


def test_what_failed_may_decide_it():
    """The models that could not be measured being those that would have turned the claim."""
    gone = {"figure": "cell", "status": "failed", "reason": "out of memory"}
    rows = models_of(DENSE)
    assert judged(rows).verdict == "supported"
    for kind in ("moe", None):  # of what kind it is may be told by the weights alone
        finding = judged([*rows, model_row("moe-9", None, kind=kind, **gone)])
        words = "1 of 7 models failed: moe-9; 'exitbench study --retry-failed' tries again"
        assert (finding.verdict, finding.why) == ("undecided", words)
        assert [(one.verdict, one.why) for one in finding.comparisons] == [("undecided", words)]
        assert finding.comparisons[0].value == pytest.approx(0.1), "the figures may be seen"
    elsewhere = judged([*rows, model_row("h", None, kind="hybrid", **gone)])
    assert elsewhere.verdict == "supported", "a model that is not compared need not be measured"
    assert "1 of 7 models was not measured: h." in elsewhere.cautions


def test_a_model_without_the_tag_need_not_be_measured():
    """A verdict that waits for ever for a model that could not be compared, since no weights tell a tag."""
    gone = {"figure": "cell", "status": "failed", "reason": "out of memory"}
    rows = [replace(row, tags={"g": row.kind}) for row in models_of(DENSE)]
    for section, tags in (({"factor": "tags.g"}, {}), ({"pair": "tags.p"}, {"g": "moe"}), ({"within": "tags.p"}, {})):
        tagged = [replace(row, tags=row.tags | {"p": "1"}) for row in rows]
        finding = judged([*tagged, model_row("other", None, tags=tags, **gone)], **section)
        assert finding.verdict == "supported", section
        (why,) = [model.left_out for model in finding.models if model.left_out]
        assert "not known" in why
        assert "tags." in why
        assert "1 of 7 models was not measured: other." in finding.cautions


def _with_plan(rows, planned, late=None, **section):
    flags = late or [False] * len(planned)
    plan = Plan(cells=[PlannedCell(late=flag, row=row) for row, flag in zip(planned, flags, strict=True)])
    return judge(replace(case(rows, **section), plan=plan))


def test_a_study_that_is_not_through_decides_nothing():
    """Half of a study judged as if it were the whole one."""
    rows = models_of({"dense": 0.20, "moe": 0.30}, seeds=5)
    to_do = [replace(row, figure="cell", value=None, status="failed", reason="still to do") for row in rows]
    assert _with_plan(rows, to_do).verdict == "opposite"
    part = [row for row in rows if not row.model.endswith(("3", "4"))]
    finding = _with_plan(part, to_do)
    words = "4 of 10 models are not measured yet: dense-3, dense-4, moe-3, moe-4; run 'exitbench study' to the end"
    assert (finding.verdict, finding.why) == ("undecided", words)
    assert finding.comparisons[0].value == pytest.approx(-0.1)
    left_out = {model.label: model.left_out for model in finding.models if model.left_out}
    assert left_out == dict.fromkeys(("dense-3", "dense-4", "moe-3", "moe-4"), "not measured: still to do")
    assert not any("not measured" in caution for caution in finding.cautions), "it is said once"
    assert _with_plan(rows[1:], to_do).why.startswith("1 of 10 models is not measured yet: dense-0;")
    again = [replace(to_do[0], cell="another"), *to_do[1:]]
    assert "not measured yet: dense-0;" in _with_plan(rows, again).why, "a part of it still waits"
    assert "dense-1, dense-2, dense-3, dense-4, moe-0, moe-1 and 3 more" in _with_plan(rows[:1], to_do).why
    hybrid = model_row("h", None, "cell", status="failed", reason="still to do", kind="hybrid")
    assert _with_plan(rows, [*to_do, hybrid]).verdict == "opposite", "a model that is not compared may wait"
    other_text = model_row("d", None, "cell", status="failed", reason="still to do", kind="dense", on="answers")
    on_text = _with_plan(rows, [*to_do, other_text], on="text")
    assert on_text.verdict == "opposite", "so may a cell that the finding is not about"


def test_a_model_is_not_judged_at_an_earlier_checkpoint_than_planned():
    """The checkpoints that happen to be there taken for the last ones."""
    rows = models_of(DENSE, step=100)
    to_do = [replace(row, step=step, cell=f"{row.cell}-{step}", reason="to do") for row in rows for step in (10, 100)]
    there = [replace(row, cell=f"{row.cell}-100") for row in rows]
    assert _with_plan(there, to_do).verdict == "supported", "an earlier checkpoint may wait"
    first = [replace(row, step=10, cell=f"{row.cell}-10") for row in rows[:1]]
    assert "dense-0" in _with_plan([*first, *there[1:]], [replace(row, status="failed") for row in to_do]).why


def test_when_models_were_planned_is_told():
    """Models added until the claim held; a folder that cannot tell taken for one that says there were none."""
    rows = models_of(DENSE)
    said = _with_plan(rows, rows, [False] * 5 + [True]).cautions
    assert "Planned only when there were results already: moe-2." in said
    assert not any("already" in caution for caution in _with_plan(rows, rows).cautions)
    assert any("which models were planned before" in caution for caution in _with_plan(rows, rows, [None] * 6).cautions)
    assert any("all that was planned was measured" in caution for caution in judged(rows).cautions)


def test_a_primary_figure_that_is_missing_is_named():
    """A figure that nobody has, or that one side lacks, read as too few models."""
    finding = judged(models_of(DENSE), primary="ees_stra")
    assert finding.why == "no ees_stra of any of 6 models: no such row"
    lacking = [model_row(row.model, None, kind=row.kind) for row in models_of({"moe": 0.2}, seeds=5)]
    finding = judged([*models_of({"dense": 0.3}), *lacking], against=["moe", "ssm"])
    assert [c.reason for c in finding.comparisons] == [
        "no ees of 5 of 8 models (moe-0, moe-1, moe-2, ..): there is none",
        "no models of both groups to compare",
    ]
