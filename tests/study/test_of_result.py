"""A single result as rows: the same figures under the same names as in a study."""

import pytest

from exitbench.replay.assemble import ReplayOptions, replay
from exitbench.score import score
from exitbench.study.of_result import labels_of, rows_of_result
from exitbench.study.rows import LEVEL_TAG
from exitbench.trace.precision import Look, Precision


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


def renamed(card, **model):
    return card.model_copy(update={"model": card.model.model_copy(update=model)})


def test_models_of_one_name_are_told_apart(card):
    """Three folders named after their step that look like one model measured three times, or one model as two."""
    sources = ("zoo/a/step-9", "zoo/b/step-9", "other/b/step-9", "zoo/b/step-9")
    hashes = ("1" * 64, "2" * 64, "3" * 64, "2" * 64)
    cards = [
        renamed(card, name="step-9", source=source, weights_sha256=sha)
        for source, sha in zip(sources, hashes, strict=True)
    ]
    assert labels_of(cards[:2]) == ["a/step-9", "b/step-9"]
    assert labels_of(cards) == ["a/step-9", "step-9 (22222222)", "step-9 (33333333)", "step-9 (22222222)"]
    assert labels_of([cards[1], cards[3]]) == ["step-9", "step-9"]


def test_another_level_of_intervals_travels(card):
    """Intervals at 98.75 % that pass for 95 % once they are rows."""
    look = Look(n_samples=24, n_prompts=24, level=0.9875, half_width=0.02)
    precision = Precision(target=0.02, reached=True, n_available=24, n_looks=1, looks=(look,))
    assert rows_of_result(card)[0].tags == {}
    assert rows_of_result(card.model_copy(update={"precision": precision}))[0].tags == {LEVEL_TAG: "98.75 %"}


def test_policies_are_told_by_the_replay_that_made_them(card, replayed):
    """Figures of policies under the seed and the command of the card, which chose other prompts to calibrate on."""
    other = card.model_copy(update={"seed": card.seed + 1, "command": "exitbench score"})
    rows = rows_of_result(other, replayed)
    told = {(row.target is not None, row.seed, row.command) for row in rows}
    assert told == {(False, other.seed, "exitbench score"), (True, replayed.seed, replayed.command)}


def test_results_of_other_settings_are_other_cells(card):
    """Six prompts and ten of one model, counted as one cell by whoever groups rows."""
    fewer = card.model_copy(update={"settings": card.settings.model_copy(update={"limit": 6})})
    assert len({row.cell for result in (card, fewer, card) for row in rows_of_result(result)}) == 2
