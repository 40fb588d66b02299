"""Records whose nulls have reasons, in Python and in JSON."""

import pytest
from pydantic import ValidationError

from exitbench.stats.reasoned import Reasoned, with_reasons


class Row(Reasoned):
    name: str
    gain: float | None
    cost: float | None


def test_texts_become_reasons_and_values_stay():
    """A reason stored as a value, or a 0 taken for missing."""
    fields = with_reasons({"gain": 0.0, "cost": "no profile"})
    assert fields == {"gain": 0.0, "cost": None, "reasons": {"cost": "no profile"}}


def test_json_has_the_reason_beside_the_null():
    """A null in a file that nobody can explain, or a field called "reasons" in it."""
    row = Row(name="a", **with_reasons({"gain": 0.5, "cost": "no profile"}))
    data = row.model_dump(mode="json")
    assert list(data.items()) == [("name", "a"), ("gain", 0.5), ("cost", None), ("cost_reason", "no profile")]
    assert Row.model_validate(data) == row


@pytest.mark.parametrize(
    "outcomes",
    [
        {"name": "a", "gain": None, "cost": 1.0, "reasons": {}},
        {"name": "a", "gain": 1.0, "cost": 1.0, "reasons": {"gain": "why"}},
        {"name": "a", "gain": None, "cost": 1.0},
        {"name": "a", "gain": 1.0, "cost": 1.0, "gian_reason": "a typing error"},
        {"name": "a", "gain": float("nan"), "cost": 1.0, "reasons": {}},
    ],
)
def test_nulls_and_reasons_must_match(outcomes):
    """A null without a word, a reason beside a value, or NaN in place of a null."""
    with pytest.raises(ValidationError):
        Row.model_validate(outcomes)


def test_records_are_frozen():
    """A figure changed after its reason was written."""
    row = Row(name="a", **with_reasons({"gain": 0.5, "cost": 1.0}))
    with pytest.raises(ValidationError):
        row.gain = 0.6
