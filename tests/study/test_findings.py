"""Findings, from rows to a verdict."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitbench.errors import ReportError
from exitbench.study.finding import Finding
from exitbench.study.findings import judge_together
from result_rows import DENSE, case, judged, model_row, models_of, rows_of


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
    finding = judged(models_of(means, spread))
    assert finding.verdict == verdict
    assert words in finding.why
    (only,) = finding.comparisons
    assert only.value == pytest.approx(means["dense"] - means["moe"])
    assert only.counts == {"models": 6, "dense": 3, "moe": 3, "strata": 1}


def test_three_seeds_are_judged_by_a_t_test_and_the_floor_is_told():
    """Three against three called significant by permutation, which cannot go below 0.1."""
    (only,) = judged(models_of(DENSE)).comparisons
    assert only.decided_by == ["t"]
    permutation, student = only.tests
    assert (permutation.p, permutation.floor, permutation.exact) == (pytest.approx(0.1), pytest.approx(0.1), True)
    assert only.p == student.p < 0.001
    assert "normal" in student.rests_on


def test_more_models_are_judged_by_permutation():
    """A normality that is assumed where it is not needed."""
    (only,) = judged(models_of(DENSE, seeds=5)).comparisons
    assert only.decided_by == ["permutation"]
    assert only.p == pytest.approx(2 / 252)


def test_comparisons_of_all_findings_are_adjusted_together():
    """Four claims with a chance of error each, published as if there were one."""
    rows = models_of({"dense": 0.30, "moe": 0.28, "ssm": 0.20}, 0.006)
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
    there, hindered = judge_together([case(models_of(DENSE)), case([*models_of(DENSE), gone])])
    assert (there.n_together, there.verdict) == (1, "supported")
    (only,) = hindered.comparisons
    assert (hindered.verdict, only.p_adjusted) == ("undecided", None)
    assert only.value == pytest.approx(0.1)


def test_controls_are_adjusted_among_themselves():
    """A claim that is lost, or a control that fails, for the other's number of tests."""
    control = case(
        models_of({"early": 0.4, "plain": 0.3}), "control", factor="kind", reference="early", against=["plain"],
        expected="supported",
    )  # fmt: skip
    claim, passed = judge_together([case(models_of(DENSE)), control])
    assert (claim.n_together, passed.n_together) == (1, 1)
    assert (passed.verdict, passed.expected) == ("supported", "supported")
    assert claim.expected is None


def test_a_permutation_that_the_adjustment_cannot_pass_does_not_decide():
    """Twenty comparisons, each by a test whose smallest p-value, times twenty, is above alpha."""
    rows = models_of({"dense": 0.3, **{f"k{i}": 0.2 for i in range(20)}}, seeds=5)
    finding = judged(rows, against=[f"k{i}" for i in range(20)])
    assert all(c.decided_by == ["t"] for c in finding.comparisons)
    assert finding.verdict == "supported"


def test_a_claim_of_two_kinds_needs_both():
    """Dense above mixtures, and so, it seems, above state spaces."""
    means = {"dense": 0.30, "moe": 0.20, "ssm": 0.40}
    finding = judged(models_of(means), against=["moe", "ssm"])
    assert [c.verdict for c in finding.comparisons] == ["supported", "opposite"]
    assert finding.verdict == "not supported"
    missing = judged(models_of(DENSE), against=["moe", "ssm"])
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
    (only,) = judged(models_of({"dense": 0.26, "moe": 0.24}, 0.04)).comparisons
    assert only.power.detectable > 0.02
    assert "not enough models" in only.power.sentence
    single = judged([model_row("a", 0.3, kind="dense"), model_row("b", 0.2, kind="moe")])
    assert single.comparisons[0].power.detectable is None
    assert "2 in each are needed" in single.comparisons[0].power.reason
    assert single.verdict == "undecided"


def test_the_record_is_plain_json():
    """A record that cannot be read back, or one of a newer version read as if it were of this one."""
    finding = judged(
        models_of(DENSE) + models_of(DENSE, figure="ees_star"), sensitivity=["ees_star"], covariates=["tied_head"]
    )
    text = json.dumps(finding.to_json(), allow_nan=False)
    assert Finding.from_json(json.loads(text)) == finding
    with pytest.raises(ReportError, match="finding of version 99"):
        Finding.from_json(json.loads(text) | {"schema_version": 99})
    with pytest.raises(ReportError, match="no finding: "):
        Finding.from_json({"verdict": "supported"})
