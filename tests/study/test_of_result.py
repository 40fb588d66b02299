"""A single result as rows: the same figures under the same names as in a study."""

import pytest

from exitbench.study.of_result import rows_of_result


@pytest.fixture
def rows(with_replay):
    return rows_of_result(with_replay.card, with_replay.replay)


def test_figures_are_those_of_the_card(with_replay, rows):
    """A figure, its interval or its counts that differ from the card's."""
    ees = next(row for row in rows if row.figure == "ees")
    figure = with_replay.card.ees
    assert (ees.value, ees.low, ees.high) == (figure.value, figure.low, figure.high)
    assert (ees.n_tokens, ees.n_prompts) == (figure.n_tokens, figure.n_prompts)
    decided = [row.value for row in rows if row.figure == "decided"]
    assert decided == list(with_replay.card.decided.value)


def test_every_policy_at_every_target(with_replay, rows):
    """A policy under another's name, or the best of all as a policy."""
    points = [point for point in with_replay.replay.points if not point.policy.startswith("best by")]
    expected = [None if p.saved_blocks is None else p.saved_blocks.value for p in points]
    saved = [row for row in rows if row.figure == "policy_savings"]
    assert [row.variant for row in saved] == [f"{point.policy} {point.probes}" for point in points]
    assert [row.value for row in saved] == expected


def test_identity_is_that_of_the_trace(with_replay, rows):
    """Two results that cannot be told apart, or one that does not say what made it."""
    card = with_replay.card
    row = rows[0]
    assert (row.weights_sha256, row.workload_sha256) == (card.model.weights_sha256, card.workload.sha256)
    assert (row.command, row.created, row.seed) == (card.command, card.created, card.seed)
