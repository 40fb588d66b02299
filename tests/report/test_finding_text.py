"""Numbers of a finding as text, one way for every page."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exitbench.report.finding_text import counts_text, effect_text, in_order, is_number, p_text
from exitbench.study.finding import JudgedModel


def _model(label, place="dense", stratum=None, **changes):
    nothing = dict.fromkeys(
        ("revision", "step", "cluster", "value", "low", "high", "n_tokens", "n_prompts", "left_out")
    )
    return JudgedModel(label=label, place=place, stratum=stratum, facts={}, **(nothing | changes))


@pytest.mark.parametrize(
    ("effect", "text"),
    [
        ((0.24149, 0.184, 0.2976), "0.241 [0.184, 0.298]"),
        ((-0.0001, -0.01, 0.0001), "0.000 [-0.010, 0.000]"),
        ((0.0, 0.0, 0.0), "0.000 [0.000, 0.000]"),
        ((0.1, None, None), "0.100 [no interval]"),
        ((0.1, None, None, "4 models"), "0.100 [no interval: 4 models]"),
        ((None, None, None), "n/a"),
    ],
)
def test_effects(effect, text):
    """A missing effect or interval as a number, or a minus before nothing."""
    assert effect_text(*effect) == text


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.003, "0.003"), (0.00099, "<0.001"), (0.001, "0.001"), (0.0, "<0.001"), (1, "1.000"), (None, "n/a")],
)
def test_p_values(p, text):
    """A p-value of 0.000."""
    assert p_text(p) == text


@pytest.mark.parametrize(
    ("text", "number"), [("-0.5", True), ("1e-3", True), ("nan", False), ("inf", False), ("v1", False)]
)
def test_places_that_are_numbers(text, number):
    """An axis of names, in the order of letters, since one of its numbers is negative."""
    assert is_number(text) == number


def test_one_of_a_thing():
    """ "1 strata"."""
    assert (
        counts_text({"models": 1, "dense": 1, "strata": 1, "clusters": 1}) == "1 model, 1 dense, 1 stratum, 1 cluster"
    )
    assert counts_text({"models": 2, "strata": 0, "clusters": 3}) == "2 models, 0 strata, 3 clusters"


def test_models_in_an_order_that_can_be_read():
    """Models by the hash of their cell, m10 before m2, or a size of 10 before one of 0.5."""
    ordered = [
        _model("a", place="0.25"),
        _model("a", place="0.5"),
        _model("a", place="10"),
        _model("m2", stratum="2"),
        _model("M10", stratum="2"),
        _model("a", stratum="10"),
        _model("a", place="moe", revision="x"),
        _model("a", place="moe", revision="y"),
        _model("a", place=None),
        _model("a", place="0.1", left_out="not trained"),
    ]
    assert in_order(reversed(ordered)) == ordered


@given(st.lists(st.tuples(st.text(max_size=4), st.none() | st.text(max_size=4), st.none() | st.text(max_size=4))))
def test_any_names_can_be_ordered(names):
    """A TypeError where a number meets a name."""
    models = [_model(label, place, stratum) for label, place, stratum in names]
    assert in_order(in_order(models)) == in_order(models)
