"""The rule that gives a comparison its word."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exitbench.study.verdict import Ruling, rule, together, turn_of

CASE = {
    "value": 0.05,
    "low": 0.03,
    "high": 0.07,
    "p_adjusted": 0.001,
    "claimed": 1,
    "smallest_effect": 0.02,
    "alpha": 0.05,
    "detectable": 0.015,
    "turned": (),
    "unseen": (),
    "reason": None,
}


@pytest.mark.parametrize(
    ("change", "word", "words"),
    [
        ({}, "supported", "adjusted p = 0.001, at most 0.05"),
        ({"claimed": -1}, "opposite", "against the claim"),
        ({"p_adjusted": 0.05}, "supported", "at most"),
        ({"p_adjusted": 0.051}, "undecided", "the interval holds an effect of 0.02"),
        ({"p_adjusted": 0.051, "detectable": 0.021}, "undecided", "too few models"),
        ({"p_adjusted": 0.051, "detectable": 0.02}, "undecided", "the interval holds an effect of 0.02"),
        ({"p_adjusted": 0.051, "detectable": None}, "undecided", "too few models"),
        ({"turned": ("ees_star",)}, "undecided", "a tie: the effect turns round under ees_star"),
        ({"claimed": -1, "turned": ("eas",)}, "undecided", "a tie"),
        ({"unseen": ("aes_5pct",)}, "undecided", "not looked at under aes_5pct"),
        ({"value": 0.01, "low": 0.001, "high": 0.019}, "not supported", "any effect is smaller than 0.02"),
        ({"value": 0.01, "low": -0.019, "high": 0.019, "p_adjusted": 0.9}, "not supported", "any effect is smaller"),
        ({"value": 0.01, "low": -0.02, "high": 0.019, "p_adjusted": 0.9}, "not supported", "as claimed is excluded"),
        ({"value": -0.1, "low": -0.3, "high": 0.01, "p_adjusted": 0.06}, "not supported", "as claimed is excluded"),
        ({"value": -0.1, "low": -0.3, "high": 0.02, "p_adjusted": 0.06}, "undecided", "above 0.05"),
        ({"value": None, "reason": "no model is ssm"}, "undecided", "no model is ssm"),
        ({"p_adjusted": None, "reason": "2 clusters"}, "undecided", "2 clusters"),
        ({"low": None, "high": None}, "supported", "at most"),
        ({"low": None, "high": None, "p_adjusted": 0.2}, "undecided", "above"),
        ({"value": 0.0, "low": -0.1, "high": 0.1}, "undecided", "adjusted p"),
        ({"value": -0.01, "low": -0.019, "high": 0.02, "p_adjusted": 0.9}, "undecided", "the interval holds"),
        (
            {"value": 0.0, "low": -0.1, "high": 0.02, "claimed": -1, "p_adjusted": 0.9},
            "undecided",
            "the interval holds",
        ),
    ],
)
def test_every_word(change, word, words):
    """A limit of the rule that moved, or two of its steps that changed places."""
    case = CASE | change
    verdict, why = rule(Ruling(**case))
    assert verdict == word
    assert words in why


@given(
    value=st.floats(-0.2, 0.2),
    reach=st.floats(0.001, 0.2),
    p=st.floats(0, 1),
    detectable=st.floats(0.001, 0.1),
    tie=st.booleans(),
)
def test_a_mirrored_case_gets_the_mirrored_word(value, reach, p, detectable, tie):
    """A rule that is stricter with one direction than with the other."""
    case = CASE | {"p_adjusted": p, "detectable": detectable, "turned": ("eas",) if tie else ()}
    here = Ruling(**case | {"value": value, "low": value - reach, "high": value + reach})
    there = Ruling(**case | {"value": -value, "low": -value - reach, "high": -value + reach, "claimed": -1})
    assert rule(here) == rule(there)


@pytest.mark.parametrize(
    ("verdicts", "word"),
    [
        ([], "undecided"),
        (["supported"], "supported"),
        (["supported", "supported"], "supported"),
        (["opposite", "opposite"], "opposite"),
        (["supported", "opposite"], "not supported"),
        (["supported", "not supported"], "not supported"),
        (["undecided", "not supported"], "not supported"),
        (["supported", "undecided"], "undecided"),
    ],
)
def test_a_claim_is_of_all_its_comparisons(verdicts, word):
    """A claim of two kinds that one of them is enough for."""
    assert together(verdicts, [f"why {verdict}" for verdict in verdicts])[0] == word


@pytest.mark.parametrize(
    ("effect", "other", "turn"),
    [
        (0.1, (0.2, 0.1, 0.3), "none"),
        (0.1, (0.0, -0.1, 0.1), "none"),
        (0.1, (-0.1, -0.3, 0.1), "sign"),
        (0.1, (-0.1, None, None), "sign"),
        (0.1, (-0.1, -0.3, -0.05), "interval"),
        (0.1, (-0.1, -0.3, 0.0), "sign"),
        (0.1, (-0.1, -0.3, None), "sign"),
        (0.0, (-0.1, -0.3, -0.05), "none"),
        (-0.1, (0.1, 0.05, 0.3), "interval"),
        (0.1, (None, None, None), None),
    ],
)
def test_turns(effect, other, turn):
    """A tie that is overlooked since the interval reaches back over 0, or one seen in an effect of 0."""
    assert turn_of(effect, *other) == turn
