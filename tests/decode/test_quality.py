"""How far answers are from the full model's, against cases worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exitbench.decode.quality import changes, edit_distance, first_divergence, identical_tokens
from exitbench.stats.bootstrap import Bootstrap, draw_weights

IDS = st.lists(st.integers(0, 3), max_size=8)


@pytest.mark.parametrize(
    ("full", "early", "same", "parted", "edits"),
    [
        ([1, 2, 3], [1, 2, 3], 3, None, 0),
        ([1, 2, 3], [1, 9, 3], 2, 1, 1),
        ([1, 2, 3], [1, 2], 2, 2, 1),
        ([1, 2, 3], [2, 3, 4], 0, 0, 2),
        ([1], [], 0, 0, 1),
        ([], [], 0, None, 0),
    ],
)
def test_by_hand(full, early, same, parted, edits):
    """An end that does not count as a difference; a shift that counts as if all were wrong."""
    assert identical_tokens(full, early) == same
    assert first_divergence(full, early) == parted
    assert edit_distance(full, early) == edits


@given(full=IDS, early=IDS)
def test_invariants(full, early):
    """A measure that depends on which answer comes first, or is 0 where answers differ."""
    assert edit_distance(full, early) == edit_distance(early, full)
    assert (edit_distance(full, early) == 0) == (full == early) == (first_divergence(full, early) is None)
    assert abs(len(full) - len(early)) <= edit_distance(full, early) <= max(len(full), len(early))
    place = first_divergence(full, early)
    if place is not None:
        assert full[:place] == early[:place]
        assert full[: place + 1] != early[: place + 1]


def test_figures_are_ratios_of_sums_with_their_counts():
    """A mean of answers' own shares, in which short answers weigh as much as long ones; an early end left out."""
    answers = [(0, [1, 2, 3, 4], [1, 2, 9, 9]), (1, [1], [1]), (2, [1, 2, 3], [1])]
    weights = draw_weights(["a"] * 3, draws=50, rng=np.random.default_rng(0))
    figures = changes(answers, Bootstrap(weights=weights), 3)
    assert figures["identical_tokens"].value == pytest.approx(4 / 8)
    assert figures["edit_distance"].value == pytest.approx(4 / 8)
    assert figures["identical_answers"].value == pytest.approx(1 / 3)
    assert figures["first_divergence"].value == 1
    assert figures["first_divergence"].n_prompts == 2
    assert (figures["identical_tokens"].n_tokens, figures["identical_tokens"].n_prompts) == (8, 3)
    assert figures["identical_tokens"].low is None  # fewer than 10 prompts


def test_no_divergence_is_no_position():
    """Identical answers that diverge at 0."""
    weights = draw_weights(["a"] * 2, draws=50, rng=np.random.default_rng(0))
    figures = changes([(0, [1, 2], [1, 2]), (1, [3], [3])], Bootstrap(weights=weights), 2)
    assert figures["first_divergence"] == "no answer differs"
    assert figures["identical_answers"].value == 1
