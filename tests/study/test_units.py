"""Models as a finding sees them: their last checkpoint, in one way measured, by names that YAML may have written."""

import pytest

from exitbench.errors import ReportError
from exitbench.study.finding_spec import FigureRef, Within, parse_finding
from exitbench.study.units import Judged, expand, judged_rows, units
from result_rows import judged, model_row

OPEN = Judged(workload=None, on=None, readout=None)


def test_the_last_checkpoint_is_judged():
    """A model judged by a checkpoint from the middle of its training, or once for each."""
    rows = [model_row("m", 0.1 * step, step=step, revision=f"step-{step}") for step in (3, 10, 2)]
    (unit,) = units(rows)
    assert unit.one_of(FigureRef(figure="ees")).step == 10
    (finished,) = units([*rows, model_row("m", 0.9, revision="main")])
    assert finished.one_of(FigureRef(figure="ees")).value == 0.9


def test_one_model_measured_in_two_ways():
    """One of two precisions chosen by the order of files."""
    with pytest.raises(ReportError, match="m is measured with dtype bfloat16 and float32"):
        units([model_row("m", 0.1, dtype="float32"), model_row("m", 0.2, "ees_star", dtype="bfloat16")])


def test_one_workload_in_two_ways():
    """Advice to judge one study at a time, of a spec that has one workload twice."""
    with pytest.raises(ReportError, match="m is measured with limit 10 and 20; keep one of these workloads in a study"):
        units([model_row("m", 0.1, limit=10), model_row("m", 0.1, limit=20)])


def test_models_that_read_other_texts():
    """Two workloads of one name compared as if they were one."""
    with pytest.raises(ReportError, match="a and b read other texts under one name"):
        units([model_row("a", workload_sha256="1"), model_row("b", workload_sha256="2")])


def test_what_is_left_open_must_be_one():
    """Answers and texts mixed in one comparison, since the finding did not say which."""
    rows = [model_row("a", workload="mini", on="answers"), model_row("a", workload="text")]
    with pytest.raises(ReportError, match="rows are of workload mini, text; say"):
        judged_rows(rows, OPEN)
    judged, kept = judged_rows(rows, Judged(workload="mini", on=None, readout=None))
    assert (judged.workload, judged.on, judged.readout, len(kept)) == ("mini", "answers", "logit", 1)
    with pytest.raises(ReportError, match="no rows of readout tuned, only of logit"):
        judged_rows(rows[1:], Judged(workload=None, on=None, readout="tuned"))


def test_factors_as_numbers():
    """A month as a number of months, or 2024-12 before 2024-03."""
    rows = {"release_month": "2024-04", "tied_head": True, "vocab_size": 1000, "tags": {"size": "3", "arm": "plain"}}
    (unit,) = units([model_row("m", 0.3, **rows), model_row("m", 1.5, "bits_per_character", **rows)])
    assert unit.number("release_month") == pytest.approx(2024 + 3.5 / 12)
    assert unit.number("tied_head") == 1
    assert unit.number("tags.size") == 3
    assert unit.number("tags.arm") is None
    assert unit.covariate("vocab_size") == pytest.approx(3)
    assert unit.covariate("bits_per_character") == 1.5
    assert unit.covariate("tags.none") is None
    assert unit.text("tied_head") == "true"


def test_bands():
    """A model on the edge of two bands that is in both, or in none."""
    band = Within(factor="active_params_b", edges=(1.0, 3.0))
    names = [units([model_row("m", active_params_b=size)])[0].stratum(band) for size in (0.5, 1.0, 2.9, 3.0)]
    assert names == ["active_params_b -inf to 1", *["active_params_b 1 to 3"] * 2, "active_params_b 3 to inf"]
    assert units([model_row("m")])[0].stratum(band) is None


def test_pairs_of_the_catalogue():
    """A base and what was made of it that never meet, since hub ids are written with capitals."""
    spec = parse_finding({"question": "stages", "claim": "c", "smallest_effect": 0.1, "pair": "catalogue"})
    base, tuned, short, *unknown = units(
        [
            model_row("base", source="huggingfacetb/SmolLM2-135m", stage="base"),
            model_row("tuned", source="HuggingFaceTB/SmolLM2-135M-Instruct", stage="instruct"),
            model_row("short", source="smollm2-135m-instruct", stage="instruct"),
            model_row("folder", source="./mine", stage="base"),
            model_row("tuned-folder", source="./mine-too", stage="instruct"),
            model_row("no-base", source="HuggingFaceTB/SmolLM2-135M", stage="instruct"),
        ]
    )
    assert base.pair(spec) == tuned.pair(spec) == short.pair(spec) == "HuggingFaceTB/SmolLM2-135M"
    assert [unit.pair(spec) for unit in unknown] == [None] * 3


def test_a_pair_that_is_not_known_says_what_to_do():
    """Folders left out one and all, and no word on how to pair them."""
    rows = [model_row("m", 0.1, source="./mine", stage="base"), model_row("n", 0.1, source="./n", stage="instruct")]
    finding = judged(rows, "stages", pair="catalogue")
    assert [model.left_out for model in finding.models] == [
        "its pair is not known: the catalogue has no ./mine; give both of a pair one tag, and say 'pair: tags.NAME'",
        "its pair is not known: the catalogue has no ./n; give both of a pair one tag, and say 'pair: tags.NAME'",
    ]
    rows = [model_row("m", source="HuggingFaceTB/SmolLM2-135M", stage="instruct")]
    assert "the catalogue knows no base of m;" in judged(rows, "stages", pair="catalogue").models[0].left_out
    assert judged(rows, "stages").models[0].left_out == "its pair is not known (tags.pair)"


def test_open_figures_are_every_one_of_them():
    """A score judged at its first alpha alone, or one figure that stands for several."""
    rows = [model_row("m", 0.1 + at, "eas", variant=variant, at=at) for variant in ("b", "a") for at in (0.5, 0.1)]
    (unit,) = units(rows)
    names = [ref.text for ref in expand(FigureRef(figure="eas"), [unit])]
    assert names == ["eas a at 0.1", "eas a at 0.5", "eas b at 0.1", "eas b at 0.5"]
    assert [ref.text for ref in expand(FigureRef(figure="eas", at=0.5), [unit])] == [
        "eas a at 0.5",
        "eas b at 0.5",
    ]
    assert expand(FigureRef(figure="none"), [unit]) == [FigureRef(figure="none")]
    with pytest.raises(ReportError, match=r"stands for eas b at 0\.5, eas b at 0\.1"):
        unit.one_of(FigureRef(figure="eas", variant="b"))


def test_curves_are_no_figures_of_a_model():
    """A share of decided tokens at one depth that is judged as if it were the model's."""
    (unit,) = units([model_row("m", 0.3), model_row("m", 0.9, "decided", depth=3)])
    assert unit.one_of(FigureRef(figure="decided")) is None
