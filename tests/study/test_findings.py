"""Findings, from rows to a verdict."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitbench.errors import ReportError
from exitbench.study.finding import Finding
from exitbench.study.findings import judge, judge_together
from exitbench.study.planned import Plan, PlannedCell
from result_rows import case, judged, model_row, rows_of

DENSE = {"dense": 0.30, "moe": 0.20}


def _kinds(means, spread=0.004, seeds=3, **shared):
    """Models of each kind about its mean, at fixed distances from it."""
    around = spread * np.linspace(-1, 1, seeds) if seeds > 1 else [0.0]
    return rows_of(
        {f"{kind}-{i}": (mean + e, {"kind": kind}) for kind, mean in means.items() for i, e in enumerate(around)},
        **shared,
    )


def _trend(slope, noise, n=12, families=4, seed=0):
    rng = np.random.default_rng(seed)
    figures = {}
    for i in range(n):
        year, month = 2019 + i // 2, 1 + 6 * (i % 2)
        value = 0.3 + slope * (year + (month - 0.5) / 12 - 2022) + noise * rng.normal()
        figures[f"m{i}"] = (value, {"release_month": f"{year}-{month:02d}", "family": f"f{i % families}"})
    return rows_of(figures)


@pytest.mark.parametrize(
    ("means", "spread", "verdict", "words"),
    [
        ({"dense": 0.30, "moe": 0.20}, 0.004, "supported", "at most 0.05"),
        ({"dense": 0.20, "moe": 0.30}, 0.004, "opposite", "against the claim"),
        ({"dense": 0.25, "moe": 0.25}, 0.004, "not supported", "any effect is smaller than 0.02"),
        ({"dense": 0.20, "moe": 0.24}, 0.020, "not supported", "as claimed is excluded"),
        ({"dense": 0.26, "moe": 0.24}, 0.040, "undecided", "too few models"),
    ],
)
def test_every_verdict_is_reached(means, spread, verdict, words):
    """A word that no data can earn."""
    finding = judged(_kinds(means, spread))
    assert finding.verdict == verdict
    assert words in finding.why
    (only,) = finding.comparisons
    assert only.value == pytest.approx(means["dense"] - means["moe"])
    assert only.counts == {"models": 6, "dense": 3, "moe": 3, "strata": 1}


def test_three_seeds_are_judged_by_a_t_test_and_the_floor_is_told():
    """Three against three called significant by permutation, which cannot go below 0.1."""
    (only,) = judged(_kinds(DENSE)).comparisons
    assert only.decided_by == ["t"]
    permutation, student = only.tests
    assert (permutation.p, permutation.floor, permutation.exact) == (pytest.approx(0.1), pytest.approx(0.1), True)
    assert only.p == student.p < 0.001
    assert "normal" in student.rests_on


def test_more_models_are_judged_by_permutation():
    """A normality that is assumed where it is not needed."""
    (only,) = judged(_kinds(DENSE, seeds=5)).comparisons
    assert only.decided_by == ["permutation"]
    assert only.p == pytest.approx(2 / 252)


def test_comparisons_of_all_findings_are_adjusted_together():
    """Four claims with a chance of error each, published as if there were one."""
    rows = _kinds({"dense": 0.30, "moe": 0.28, "ssm": 0.20}, 0.006)
    alone = judged(rows, against=["moe", "ssm"])
    both = judge_together([case(rows, against=["moe", "ssm"]), case(_trend(-0.01, 0.002), "generations", cluster=None)])
    assert (alone.n_together, [finding.n_together for finding in both]) == (2, [3, 3])
    ps = sorted(c.p for finding in both for c in finding.comparisons)
    adjusted = sorted(c.p_adjusted for finding in both for c in finding.comparisons)
    assert adjusted[0] == pytest.approx(3 * ps[0])
    assert adjusted[2] >= ps[2]
    assert both[0].comparisons[0].p_adjusted >= alone.comparisons[0].p_adjusted


def test_comparisons_that_nothing_can_decide_are_not_adjusted_for():
    """A claim that is lost for the comparisons of another, which has models that failed."""
    gone = model_row("moe-9", None, "cell", status="failed", reason="out of memory", kind="moe")
    there, hindered = judge_together([case(_kinds(DENSE)), case([*_kinds(DENSE), gone])])
    assert (there.n_together, there.verdict) == (1, "supported")
    (only,) = hindered.comparisons
    assert (hindered.verdict, only.p_adjusted) == ("undecided", None)
    assert only.value == pytest.approx(0.1)


def test_controls_are_adjusted_among_themselves():
    """A claim that is lost, or a control that fails, for the other's number of tests."""
    control = case(
        _kinds({"early": 0.4, "plain": 0.3}), "control", factor="kind", reference="early", against=["plain"],
        expected="supported",
    )  # fmt: skip
    claim, passed = judge_together([case(_kinds(DENSE)), control])
    assert (claim.n_together, passed.n_together) == (1, 1)
    assert (passed.verdict, passed.expected) == ("supported", "supported")
    assert claim.expected is None


def test_a_permutation_that_the_adjustment_cannot_pass_does_not_decide():
    """Twenty comparisons, each by a test whose smallest p-value, times twenty, is above alpha."""
    rows = _kinds({"dense": 0.3, **{f"k{i}": 0.2 for i in range(20)}}, seeds=5)
    finding = judged(rows, against=[f"k{i}" for i in range(20)])
    assert all(c.decided_by == ["t"] for c in finding.comparisons)
    assert finding.verdict == "supported"


def test_a_claim_of_two_kinds_needs_both():
    """Dense above mixtures, and so, it seems, above state spaces."""
    means = {"dense": 0.30, "moe": 0.20, "ssm": 0.40}
    finding = judged(_kinds(means), against=["moe", "ssm"])
    assert [c.verdict for c in finding.comparisons] == ["supported", "opposite"]
    assert finding.verdict == "not supported"
    missing = judged(_kinds(DENSE), against=["moe", "ssm"])
    assert [c.verdict for c in missing.comparisons] == ["supported", "undecided"]
    assert missing.verdict == "undecided"
    absent = missing.comparisons[1]
    assert (absent.value, absent.p, absent.p_adjusted, absent.decided_by) == (None, None, None, [])
    assert absent.reason == "no models of both groups to compare"
    assert missing.n_together == 1


@pytest.mark.parametrize("question", ["kinds", "generations", "size", "stages"])
def test_one_model_decides_nothing(question):
    """A division by nothing, or a verdict on one model."""
    facts = {"kind": "dense", "stage": "base", "release_month": "2024-01", "total_params_b": 1.0, "tags": {"pair": "a"}}
    finding = judged([model_row("only", 0.3, **facts)], question)
    assert finding.verdict == "undecided"
    assert all(c.value is None and c.reason for c in finding.comparisons)
    assert finding.n_models == 0
    assert finding.models[0].left_out == "no other model to compare it with"


def test_models_that_fall_short_leave_it_undecided():
    """Untrained models, all alike, taken for proof that kinds do not differ."""
    section = {"require": [{"factor": "tags.gain", "at_least": 1.0, "otherwise": "not trained"}]}
    rows = _kinds(DENSE, tags={"gain": "1.5"})
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
        *_kinds(DENSE),
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
    rows = _kinds(DENSE)
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
    rows = [replace(row, tags={"g": row.kind}) for row in _kinds(DENSE)]
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
    rows = _kinds({"dense": 0.20, "moe": 0.30}, seeds=5)
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
    rows = _kinds(DENSE, step=100)
    to_do = [replace(row, step=step, cell=f"{row.cell}-{step}", reason="to do") for row in rows for step in (10, 100)]
    there = [replace(row, cell=f"{row.cell}-100") for row in rows]
    assert _with_plan(there, to_do).verdict == "supported", "an earlier checkpoint may wait"
    first = [replace(row, step=10, cell=f"{row.cell}-10") for row in rows[:1]]
    assert "dense-0" in _with_plan([*first, *there[1:]], [replace(row, status="failed") for row in to_do]).why


def test_when_models_were_planned_is_told():
    """Models added until the claim held; a folder that cannot tell taken for one that says there were none."""
    rows = _kinds(DENSE)
    said = _with_plan(rows, rows, [False] * 5 + [True]).cautions
    assert "Planned only when there were results already: moe-2." in said
    assert not any("already" in caution for caution in _with_plan(rows, rows).cautions)
    assert any("which models were planned before" in caution for caution in _with_plan(rows, rows, [None] * 6).cautions)
    assert any("all that was planned was measured" in caution for caution in judged(rows).cautions)


def test_a_ranking_that_turns_round_is_a_tie():
    """A claim that holds under the one score it was made with."""
    rows = _kinds(DENSE)
    turned = _kinds({"dense": 0.1, "moe": 0.4}, figure="ees_star")
    faint = _kinds({"dense": 0.30, "moe": 0.301}, figure="ees_star")
    section = {"sensitivity": ["ees_star"]}
    tie = judged(rows + turned, **section)
    assert (tie.verdict, tie.comparisons[0].sensitivity[0].turn) == ("undecided", "interval")
    assert "a tie: the effect turns round under ees_star" in tie.why
    weak = judged(rows + faint, **section)
    assert (weak.verdict, weak.comparisons[0].sensitivity[0].turn) == ("undecided", "sign")
    assert judged(rows + faint, turns="interval", **section).verdict == "supported"
    assert judged(rows + _kinds(DENSE, figure="ees_star"), **section).verdict == "supported"


def test_every_place_of_a_figure_is_looked_at():
    """EAS at the one alpha under which the claim holds."""
    rows = _kinds(DENSE)
    for similarity in ("logit_cosine", "hidden_cosine"):
        for alpha in (0.1, 0.9):
            means = {"dense": 0.1, "moe": 0.4} if (similarity, alpha) == ("hidden_cosine", 0.9) else DENSE
            rows = rows + _kinds(means, figure="eas", variant=similarity, at=alpha)
    finding = judged(rows, sensitivity=["eas"])
    seen = {other.figure: other.turn for other in finding.comparisons[0].sensitivity}
    assert len(seen) == 4
    assert [figure for figure, turn in seen.items() if turn != "none"] == ["eas hidden_cosine at 0.9"]
    assert finding.verdict == "undecided"


def test_a_figure_that_was_to_be_looked_at_is_missing():
    """A sensitivity analysis that was promised and is passed over."""
    finding = judged(_kinds(DENSE), sensitivity=["aes_5pct"])
    assert finding.verdict == "undecided"
    (other,) = finding.comparisons[0].sensitivity
    assert (other.value, other.turn, other.n_models) == (None, None, 0)
    assert other.reason == "no aes_5pct of any of 6 models: no such row"
    nulls = [model_row(row.model, None, "aes_5pct", kind=row.kind) for row in _kinds(DENSE)]
    (other,) = judged(_kinds(DENSE) + nulls, sensitivity=["aes_5pct"]).comparisons[0].sensitivity
    assert other.reason == "no aes_5pct of any of 6 models: there is none"
    dense = [model_row(f"dense-{i}", 0.1, "aes_5pct", kind="dense") for i in range(3)]
    (other,) = judged(_kinds(DENSE) + dense, sensitivity=["aes_5pct"]).comparisons[0].sensitivity
    assert other.reason == "no aes_5pct of 3 of 6 models (moe-0, moe-1, moe-2): no such row"


def test_a_primary_figure_that_is_missing_is_named():
    """A figure that nobody has, or that one side lacks, read as too few models."""
    finding = judged(_kinds(DENSE), primary="ees_stra")
    assert finding.why == "no ees_stra of any of 6 models: no such row"
    lacking = [model_row(row.model, None, kind=row.kind) for row in _kinds({"moe": 0.2}, seeds=5)]
    finding = judged([*_kinds({"dense": 0.3}), *lacking], against=["moe", "ssm"])
    assert [c.reason for c in finding.comparisons] == [
        "no ees of 5 of 8 models (moe-0, moe-1, moe-2, ..): there is none",
        "no models of both groups to compare",
    ]


def test_an_effect_of_rounding_size_turns_nothing():
    """A tie, or a support, by the last digit of a sum."""
    y = [0.1, 0.2, 0.3, 0.3, 0.2, 0.1]
    assert sum(y[:3]) > sum(y[3:])
    even = [model_row(row.model, v, "eas", kind=row.kind) for row, v in zip(_kinds(DENSE), y, strict=True)]
    for rows in (_kinds(DENSE) + even, _kinds({"dense": 0.2, "moe": 0.3}) + even):
        (only,) = judged(rows, sensitivity=["eas"]).comparisons
        assert (only.sensitivity[0].value, only.sensitivity[0].turn) == (0, "none")


def test_generations_within_families():
    """A slope in months, or of one family's luck."""
    finding = judged(_trend(-0.02, 0.001), "generations", cluster="family", smallest_effect=0.005)
    (slope,) = finding.comparisons
    assert finding.verdict == "supported"
    assert slope.value == pytest.approx(-0.02, abs=0.002)
    assert slope.unit == "ees per year"
    assert slope.decided_by == ["permutation", "clustered"]
    assert slope.p == max(test.p for test in slope.tests if test.test != "t")
    assert slope.standardised == -1
    two = judged(_trend(-0.02, 0.001, families=2), "generations", cluster="family")
    assert two.verdict == "undecided"
    assert "2 clusters, 3 are needed" in two.why
    assert two.comparisons[0].value == pytest.approx(-0.02, abs=0.002)
    rising = judged(_trend(0.02, 0.001), "generations", cluster="family", smallest_effect=0.005)
    assert rising.verdict == "opposite"


def test_unknown_clusters_are_not_independent_ones():
    """Models whose family nobody gave, each taken for a family of its own."""
    rows = [*_trend(-0.02, 0.001), model_row("new", 0.2, release_month="2025-01")]
    finding = judged(rows, "generations", cluster="family")
    assert finding.verdict == "undecided"
    assert "family of new is not known" in finding.why


def test_size_by_its_slope_and_by_its_threshold():
    """A claim on models above 20 B judged by none of them, without a word."""
    sizes = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
    figures = {f"m{b:g}": (0.3 + 0.05 * np.log10(b) + 0.001 * (-1) ** i, {"total_params_b": b})
               for i, b in enumerate(sizes)}  # fmt: skip
    finding = judged(rows_of(figures), "size", sensitivity=["ees"])
    slope, threshold = finding.comparisons
    assert finding.verdict == "supported"
    assert slope.value == pytest.approx(0.05, abs=0.002)
    assert slope.unit == "ees per factor of 10"
    assert not threshold.judged
    assert threshold.reason == threshold.sensitivity[0].reason == "no model is above 20 (total_params_b)"
    assert finding.n_together == 1
    lower = judged(rows_of(figures), "size", threshold=1.0, judged_by="both")
    assert lower.comparisons[1].counts == {"models": 7, "above 1": 3, "up to 1": 4, "strata": 1}
    assert lower.comparisons[1].value > 0
    assert lower.n_together == 2
    assert judged(rows_of(figures), "size", judged_by="threshold").verdict == "undecided"


def test_stages_are_paired():
    """A gain of tuning that drowns in the differences between the models that were tuned."""
    figures = {}
    for i, level in enumerate((0.1, 0.2, 0.3, 0.4, 0.5, 0.6)):
        pair = {"tags": {"pair": str(i)}}
        figures[f"base-{i}"] = (level + 0.03 + 0.002 * (-1) ** i, {"stage": "base"} | pair)
        figures[f"tuned-{i}"] = (level, {"stage": "instruct"} | pair)
    figures["lonely"] = (0.9, {"stage": "base", "tags": {"pair": "x"}})
    finding = judged(rows_of(figures), "stages")
    (only,) = finding.comparisons
    assert finding.verdict == "supported"
    assert only.value == pytest.approx(0.03)
    assert only.counts == {"models": 12, "base": 6, "instruct": 6, "strata": 6}
    assert only.tests[0].floor == pytest.approx(2 / 2**6)
    assert finding.models[-1].left_out == "no other model to compare it with"
    unpaired = judged(rows_of(figures), "stages", pair=None)
    assert unpaired.verdict == "undecided"


def test_covariates_are_held_fixed_where_models_allow():
    """A coefficient from as many numbers as models, or a covariate that is the same for all."""
    rng = np.random.default_rng(4)
    figures = {}
    for i in range(16):
        kind, log_vocab = ("dense", "moe")[i % 2], 4 + 0.1 * i
        value = 0.2 + 0.1 * (kind == "dense") + 0.3 * (log_vocab - 4) + 0.002 * rng.normal()
        figures[f"m{i}"] = (value, {"kind": kind, "vocab_size": round(10**log_vocab), "tied_head": True})
    finding = judged(rows_of(figures), covariates=["vocab_size", "tied_head"])
    held = finding.comparisons[0].adjusted
    assert held.value == pytest.approx(0.1, abs=0.005)
    assert held.covariates == ["vocab_size"]
    assert held.turn == "none"
    assert finding.models[3].facts["vocab_size"] == round(10**4.3), "sizes are shown as they are"
    assert finding.models[3].facts["tied_head"] is True
    few = judged(rows_of(dict(list(figures.items())[:5])), covariates=["vocab_size"])
    assert few.comparisons[0].adjusted.value is None
    assert "more than these are needed" in few.comparisons[0].adjusted.reason
    unknown = judged(_kinds(DENSE), covariates=["bits_per_character"])
    assert "bits_per_character is known" in unknown.comparisons[0].adjusted.reason


def test_an_effect_that_a_covariate_turns_round_is_a_tie():
    """A difference of kinds that is one of vocabularies, published as the former."""
    figures = {}
    for i in range(20):
        dense = i % 2
        vocab = 4 + 0.5 * dense + 0.05 * (i // 2)
        figures[f"m{i}"] = (0.1 * vocab - 0.03 * dense + 0.0005 * (-1) ** (i // 2),
                            {"kind": ("moe", "dense")[dense], "vocab_size": round(10**vocab)})  # fmt: skip
    assert judged(rows_of(figures), smallest_effect=0.005).verdict == "supported"
    held = judged(rows_of(figures), covariates=["vocab_size"], smallest_effect=0.005)
    assert held.comparisons[0].adjusted.turn == "interval"
    assert held.verdict == "undecided"
    assert "ees with vocab_size held fixed" in held.why


@given(st.lists(st.floats(0, 1).map(lambda x: round(x, 3)), min_size=8, max_size=8), st.floats(0.001, 0.2))
@settings(max_examples=40, deadline=None)
def test_swapped_groups_swap_the_words(values, smallest):
    """A rule that favours whichever group is named first."""
    kinds = ["dense"] * 4 + ["moe"] * 4
    there = {"dense": "moe", "moe": "dense"}
    rows = [model_row(f"m{i}", v, kind=k) for i, (v, k) in enumerate(zip(values, kinds, strict=True))]
    swapped = [model_row(f"m{i}", v, kind=there[k]) for i, (v, k) in enumerate(zip(values, kinds, strict=True))]
    here, mirrored = judged(rows, smallest_effect=smallest), judged(swapped, smallest_effect=smallest)
    effect, other = here.comparisons[0], mirrored.comparisons[0]
    assert other.value == pytest.approx(-effect.value, abs=1e-12)
    assert other.p == pytest.approx(effect.p)
    swap = {"supported": {"opposite", "not supported"}, "opposite": {"supported"}, "undecided": {"undecided"}}
    if here.verdict == "undecided":
        assert mirrored.verdict in ("undecided", "not supported")
    elif here.verdict in swap:
        assert mirrored.verdict in swap[here.verdict]
    claimed_of_other = judged(swapped, smallest_effect=smallest, reference_is="lower")
    assert claimed_of_other.verdict == here.verdict


def test_the_rule_holds_its_level():
    """Claims supported, or turned round, more often than alpha where there is nothing to find."""
    rng = np.random.default_rng(11)
    wrong = {"kinds": 0, "generations": 0}
    draws = 300
    for _ in range(draws):
        kinds = [model_row(f"{k}{i}", 0.3 + 0.01 * rng.normal(), kind=k) for k in DENSE for i in range(3)]
        wrong["kinds"] += judged(kinds, smallest_effect=0.001).verdict in ("supported", "opposite")
        months = [f"{2019 + i // 2}-{1 + 6 * (i % 2):02d}" for i in range(6)]
        trend = [model_row(f"m{i}", 0.3 + 0.01 * rng.normal(), release_month=m) for i, m in enumerate(months)]
        wrong["generations"] += judged(trend, "generations", smallest_effect=0.001).verdict in ("supported", "opposite")
    noise = 3 * np.sqrt(0.05 * 0.95 / draws)
    assert wrong["kinds"] / draws <= 0.05 + noise
    assert wrong["generations"] / draws <= 0.05 + noise
    assert wrong["kinds"] + wrong["generations"] > 0, "a rule that never errs finds nothing either"


def test_power_says_what_was_to_be_seen():
    """Too few models, and no word on what they could have shown."""
    (only,) = judged(_kinds({"dense": 0.26, "moe": 0.24}, 0.04)).comparisons
    assert only.power.detectable > 0.02
    assert "not enough models" in only.power.sentence
    single = judged([model_row("a", 0.3, kind="dense"), model_row("b", 0.2, kind="moe")])
    assert single.comparisons[0].power.detectable is None
    assert "2 in each are needed" in single.comparisons[0].power.reason
    assert single.verdict == "undecided"


def test_the_record_is_plain_json():
    """A record that cannot be read back, or one of a newer version read as if it were of this one."""
    finding = judged(
        _kinds(DENSE) + _kinds(DENSE, figure="ees_star"), sensitivity=["ees_star"], covariates=["tied_head"]
    )
    text = json.dumps(finding.to_json(), allow_nan=False)
    assert Finding.from_json(json.loads(text)) == finding
    with pytest.raises(ReportError, match="finding of version 99"):
        Finding.from_json(json.loads(text) | {"schema_version": 99})
    with pytest.raises(ReportError, match="no finding: "):
        Finding.from_json({"verdict": "supported"})
