"""The card as a record: what it refuses to hold or to read."""

import pytest
from pydantic import ValidationError

from exitbench.errors import ReportError
from exitbench.score import ScoreCard, score


@pytest.fixture(scope="module")
def card(typical_trace):
    return score(typical_trace, draws=100)


def test_another_schema_version_is_refused(card):
    """An old card read with today's meaning of its fields."""
    with pytest.raises(ReportError, match=r"schema version 99, expected 4"):
        ScoreCard.from_json(card.to_json() | {"schema_version": 99})


def test_something_else_is_refused_in_one_line(card):
    """A traceback of a validation library for a file that is no card."""
    with pytest.raises(ReportError, match=r"not a score card: ees") as caught:
        ScoreCard.from_json(card.to_json() | {"ees": {"value": "high"}})
    assert "\n" not in str(caught.value)


def test_an_unknown_field_is_refused(card):
    """A misspelt figure dropped silently."""
    with pytest.raises(ReportError, match="eess"):
        ScoreCard.from_json(card.to_json() | {"eess": None, "eess_reason": "typo"})


def test_a_null_without_a_reason_is_refused(card):
    """A figure that vanished without a word."""
    broken = card.to_json()
    del broken["max_skip_reason"]
    with pytest.raises(ReportError, match="max_skip"):
        ScoreCard.from_json(broken)


def test_cards_are_frozen(card):
    """A figure changed after the fact."""
    with pytest.raises(ValidationError):
        card.n_tokens = 5
