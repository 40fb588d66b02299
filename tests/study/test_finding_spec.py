"""The section that fixes, before there are results, how a finding is judged."""

import pytest

from exitbench.errors import ExitbenchError
from exitbench.study.finding_spec import FigureRef, Within, parse_finding

LEAST = {"question": "size", "claim": "large models keep more", "smallest_effect": 0.02}


def test_what_is_left_out_is_as_published():
    """A default that turns the published claim round, or calls models of one family independent."""
    size = parse_finding(LEAST)
    assert (size.factor, size.trend, size.threshold, size.cluster) == ("total_params_b", "rises", 20.0, "family")
    kinds = parse_finding(LEAST | {"question": "kinds"})
    assert (kinds.reference, kinds.against, kinds.reference_is) == ("dense", ("moe", "ssm"), "higher")
    stages = parse_finding(LEAST | {"question": "stages"})
    assert (stages.reference, stages.against, stages.pair) == ("base", ("instruct",), "tags.pair")
    assert parse_finding(LEAST | {"question": "generations"}).trend == "falls"


def test_short_forms_are_the_long_ones():
    """A name alone that means something else than the mapping with that name."""
    short = parse_finding(LEAST | {"within": "tags.size", "sensitivity": ["ees_star"]})
    long = parse_finding(LEAST | {"within": {"factor": "tags.size"}, "sensitivity": [{"figure": "ees_star"}]})
    assert short == long
    assert short.within == Within(factor="tags.size")
    assert short.sensitivity == (FigureRef(figure="ees_star"),)


def test_a_spec_survives_its_own_record():
    """A finding whose saved spec judges otherwise than the one it was judged by."""
    spec = parse_finding(
        LEAST | {"within": {"factor": "active_params_b", "edges": [1, 3]}, "covariates": ["tied_head"]}
    )
    assert parse_finding(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"smallest_efect": 1}, "did you mean 'smallest_effect'?"),
        ({"smallest_effect": "0.02"}, "smallest_effect: Input should be a valid number"),
        ({"smallest_effect": 0}, "greater than 0"),
        ({"smallest_effect": float("nan")}, "finite"),
        ({"alpha": 0.5}, "less than 0.5"),
        ({"factor": "total_parms_b"}, "did you mean 'total_params_b'?"),
        ({"factor": "tags."}, "'tags.' is no factor"),
        ({"within": {"factor": "kind", "edges": [3, 1]}}, "edges must ascend"),
        ({"question": "speed"}, "expected one of generations, kinds, size, stages, control"),
        ({"question": ["size"]}, "expected one of generations"),
        ({"question": "kinds", "against": ["dense"]}, "reference and against must differ"),
        ({"question": "kinds", "against": []}, "at least 1"),
        ({"question": "stages", "within": "kind"}, "pair and within exclude one another"),
        ({"question": "control", "factor": "tags.arm", "reference": "a", "against": ["b"]}, "expected: Field required"),
    ],
)
def test_mistakes_are_named(change, words):
    """A slip of the pen that silently leaves the rule at its default, or a text where a number belongs."""
    with pytest.raises(ExitbenchError, match=r"^finding: ") as refused:
        parse_finding(LEAST | change)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_section_that_is_none():
    """A list where a mapping belongs, met with a traceback."""
    with pytest.raises(ExitbenchError, match="expected one of generations"):
        parse_finding(["size"])
