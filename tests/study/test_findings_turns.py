"""Findings whose effect another figure, or a covariate, turns round."""

import numpy as np
import pytest

from result_rows import DENSE, judged, model_row, models_of, rows_of


def test_a_ranking_that_turns_round_is_a_tie():
    """A claim that holds under the one score it was made with."""
    rows = models_of(DENSE)
    turned = models_of({"dense": 0.1, "moe": 0.4}, figure="ees_star")
    faint = models_of({"dense": 0.30, "moe": 0.301}, figure="ees_star")
    section = {"sensitivity": ["ees_star"]}
    tie = judged(rows + turned, **section)
    assert (tie.verdict, tie.comparisons[0].sensitivity[0].turn) == ("undecided", "interval")
    assert "a tie: the effect turns round under ees_star" in tie.why
    weak = judged(rows + faint, **section)
    assert (weak.verdict, weak.comparisons[0].sensitivity[0].turn) == ("undecided", "sign")
    assert judged(rows + faint, turns="interval", **section).verdict == "supported"
    assert judged(rows + models_of(DENSE, figure="ees_star"), **section).verdict == "supported"


def test_every_place_of_a_figure_is_looked_at():
    """EAS at the one alpha under which the claim holds."""
    rows = models_of(DENSE)
    for similarity in ("logit_cosine", "hidden_cosine"):
        for alpha in (0.1, 0.9):
            means = {"dense": 0.1, "moe": 0.4} if (similarity, alpha) == ("hidden_cosine", 0.9) else DENSE
            rows = rows + models_of(means, figure="eas", variant=similarity, at=alpha)
    finding = judged(rows, sensitivity=["eas"])
    seen = {other.figure: other.turn for other in finding.comparisons[0].sensitivity}
    assert len(seen) == 4
    assert [figure for figure, turn in seen.items() if turn != "none"] == ["eas hidden_cosine at 0.9"]
    assert finding.verdict == "undecided"


def test_a_figure_that_was_to_be_looked_at_is_missing():
    """A sensitivity analysis that was promised and is passed over."""
    finding = judged(models_of(DENSE), sensitivity=["aes_5pct"])
    assert finding.verdict == "undecided"
    (other,) = finding.comparisons[0].sensitivity
    assert (other.value, other.turn, other.n_models) == (None, None, 0)
    assert other.reason == "no aes_5pct of any of 6 models: no such row"
    nulls = [model_row(row.model, None, "aes_5pct", kind=row.kind) for row in models_of(DENSE)]
    (other,) = judged(models_of(DENSE) + nulls, sensitivity=["aes_5pct"]).comparisons[0].sensitivity
    assert other.reason == "no aes_5pct of any of 6 models: there is none"
    dense = [model_row(f"dense-{i}", 0.1, "aes_5pct", kind="dense") for i in range(3)]
    (other,) = judged(models_of(DENSE) + dense, sensitivity=["aes_5pct"]).comparisons[0].sensitivity
    assert other.reason == "no aes_5pct of 3 of 6 models (moe-0, moe-1, moe-2): no such row"


def test_an_effect_of_rounding_size_turns_nothing():
    """A tie, or a support, by the last digit of a sum."""
    y = [0.1, 0.2, 0.3, 0.3, 0.2, 0.1]
    assert sum(y[:3]) > sum(y[3:])
    even = [model_row(row.model, v, "eas", kind=row.kind) for row, v in zip(models_of(DENSE), y, strict=True)]
    for rows in (models_of(DENSE) + even, models_of({"dense": 0.2, "moe": 0.3}) + even):
        (only,) = judged(rows, sensitivity=["eas"]).comparisons
        assert (only.sensitivity[0].value, only.sensitivity[0].turn) == (0, "none")


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
    unknown = judged(models_of(DENSE), covariates=["bits_per_character"])
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
