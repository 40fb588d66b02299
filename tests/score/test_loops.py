"""Repeated 8-grams."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from exitbench.score.loops import GRAM, looped_tokens


def looped(make_trace, answers, turn=None):
    targets = [token for answer in answers for token in answer]
    prompts = np.repeat(np.arange(len(answers)), [len(answer) for answer in answers])
    top1 = np.zeros((len(targets), 3), dtype=np.int32)
    return looped_tokens(make_trace(top1, prompts=prompts, target=targets, turn=turn)).tolist()


def test_only_the_later_occurrence_counts(make_trace):
    """The first time something is said marked as a loop."""
    answer = [*range(8), 99, *range(8), 98]
    assert looped(make_trace, [answer]) == [False] * 9 + [True] * 8 + [False]


def test_a_stutter_overlaps_itself(make_trace):
    """A single repeated token, whose 8-grams overlap, missed."""
    assert looped(make_trace, [[5] * 10]) == [False] + [True] * 9
    assert looped(make_trace, [[5] * 8]) == [False] * 8


def test_answers_do_not_share_their_grams(make_trace):
    """The same words in another prompt, or across the border of two, taken for a loop."""
    assert not any(looped(make_trace, [list(range(8)), list(range(8))]))
    assert not any(looped(make_trace, [[5] * 4, [5] * 4, [5] * 4]))


def test_turns_are_separate_answers(make_trace):
    """Repetition across turns of one conversation, which may be asked for."""
    turn = [0] * 8 + [1] * 8
    assert not any(looped(make_trace, [[*range(8), *range(8)]], turn=turn))


phrases = st.sampled_from([[*range(9)], [*range(10, 20)], [3] * 5, [7]])


@given(st.lists(phrases, min_size=1, max_size=8))
def test_equals_the_quadratic_definition(make_trace, spoken):
    """A gram seen earlier but forgotten, or one compared with itself."""
    answer = [token for phrase in spoken for token in phrase]
    expected = [False] * len(answer)
    for late in range(len(answer) - GRAM + 1):
        if any(answer[early : early + GRAM] == answer[late : late + GRAM] for early in range(late)):
            expected[late : late + GRAM] = [True] * GRAM
    assert looped(make_trace, [answer]) == expected
