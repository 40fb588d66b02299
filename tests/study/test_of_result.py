"""A single result as rows: the same figures under the same names as in a study."""

import pytest

from exitbench.replay.assemble import ReplayOptions, replay
from exitbench.score import score
from exitbench.study.of_result import rows_of_result


@pytest.fixture(scope="module")
def card(typical_trace):
    return score(typical_trace, draws=200)


@pytest.fixture(scope="module")
def replayed(typical_trace):
    return replay(typical_trace, options=ReplayOptions(draws=100))


@pytest.fixture(scope="module")
def rows(card, replayed):
    return rows_of_result(card, replayed)


def test_figures_are_those_of_the_card(card, rows):
    """A figure, its interval or its counts that differ from the card's."""
    ees = next(row for row in rows if row.figure == "ees")
    figure = card.ees
    assert (ees.value, ees.low, ees.high) == (figure.value, figure.low, figure.high)
    assert (ees.n_tokens, ees.n_prompts) == (figure.n_tokens, figure.n_prompts)
    decided = [row.value for row in rows if row.figure == "decided"]
    assert decided == list(card.decided.value)


def test_every_policy_at_every_target(replayed, rows):
    """A policy under another's name, or the best of all as a policy."""
    points = [point for point in replayed.points if not point.policy.startswith("best by")]
    expected = [None if p.saved_blocks is None else p.saved_blocks.value for p in points]
    saved = [row for row in rows if row.figure == "policy_savings"]
    assert [row.variant for row in saved] == [f"{point.policy} {point.probes}" for point in points]
    assert [row.value for row in saved] == expected


def test_identity_is_that_of_the_trace(card, rows):
    """Two results that cannot be told apart, or one that does not say what made it."""
    row = rows[0]
    assert (row.weights_sha256, row.workload_sha256) == (card.model.weights_sha256, card.workload.sha256)
    assert (row.command, row.created, row.seed) == (card.command, card.created, card.seed)
