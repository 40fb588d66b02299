"""Whether a recorded answer is right."""

from dataclasses import replace

import numpy as np
import pytest

from exitbench.stats.answers import answer_texts, is_right, task_metric


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("So 12 + 9 = 21 apples.", "21", True),
        ("21 apples, that is 12 + 9", "21", False),  # the last number counts
        ("It costs $2,315.25", "2315.25", True),
        ("It costs 2,315.250 in all.", "2315.25", True),
        ("The result is 5/33.", "5/33", True),
        ("The result is 10/66", "5/33", True),
        ("The result is 33", "5/33", False),
        ("10-3", "3", True),
        ("The answer is -3", "3", False),
        ("The answer is \u22123", "-3", True),
        ("3/0", "0", True),  # no fraction, so two numbers
        ("no idea", "21", False),
        ("", "21", False),
        ("1,2,3", "3", True),
        ("Her total is 18", "5 + 13 = 18. #### 18", True),
        ("The base is B.", "base B", False),  # no number in the reference: its words in a row
        ("It is base B.", "Base B", True),
    ],
)
def test_maths_compares_the_last_numbers(answer, reference, right):
    assert is_right(answer, reference, category="math_reasoning") is right


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("The capital is BELGRADE, on the Danube.", "Belgrade", True),
        ("I know.", "no", False),
        ("It is in the (old, empty)  beehive", "in the old empty beehive", True),
        ("in the old beehive", "in the old empty beehive", False),
        ("caf\u00e9", "cafe\u0301", True),
        ("120", "12", False),
        ("", "Poland", False),
    ],
)
def test_others_contain_the_reference(answer, reference, right):
    assert is_right(answer, reference, category="qa") is right


def with_references(trace, references, turns=None):
    samples = tuple(
        replace(sample, reference=reference, turns=sample.turns * (turns or [1] * len(references))[index])
        for index, (sample, reference) in enumerate(zip(trace.samples, references, strict=True))
    )
    return replace(trace, samples=samples)


def test_metric_of_a_trace(make_trace):
    """An answer judged by the next sample's reference where one failed; a missing reference taken for wrong."""
    trace = make_trace(
        [[1, 1], [2, 2], [3, 3], [1, 1], [4, 4], [2, 2]],
        prompts=[0, 0, 2, 3, 4, 4],
        categories=["maths", "qa", "qa", "qa", "qa"],
        failed=[1],
        token_strings={1: " 4", 2: "2", 3: " Oslo", 4: " Oslo"},
    )
    trace = with_references(trace, ["42", "Rome", "Oslo", "Rome", None])
    assert answer_texts(trace) == {0: " 42", 2: " Oslo", 3: " 4", 4: " Oslo2"}
    np.testing.assert_equal(task_metric(trace), [1, 1, 0, np.nan])


def test_a_reference_without_a_word_is_none(make_trace):
    """Every answer right, because nothing occurs everywhere."""
    trace = with_references(make_trace([[1, 1], [1, 1]]), ["?!", "t1"])
    np.testing.assert_equal(task_metric(trace), [np.nan, 1])


def test_the_last_turn_is_what_the_reference_answers(make_trace):
    """An early turn that mentions the answer in passing."""
    trace = make_trace([[1, 1], [2, 2]], prompts=[0, 0], turn=[0, 1], token_strings={1: "Oslo", 2: "Rome"})
    assert task_metric(with_references(trace, ["Oslo"], turns=[2])).tolist() == [0]
    assert task_metric(with_references(trace, ["Rome"], turns=[2])).tolist() == [1]
