"""Figures and curves as they are published."""

import math

import pytest
from pydantic import ValidationError

from exitbench.stats.figure import Curve, Figure


def test_text_says_what_is_missing():
    """A missing value or interval printed as a number."""
    assert Figure(value=None, low=None, high=None, n_tokens=0, n_prompts=0).text() == "n/a"
    few = Figure(value=0.12345, low=None, high=None, n_tokens=9, n_prompts=3)
    assert few.text() == "0.123 [no interval: 3 prompts]"
    assert few.model_copy(update={"low": 0.1, "high": 0.2}).text(1) == "0.1 [0.1, 0.2]"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_is_refused(bad):
    """NaN reaching a JSON file that no other program can read."""
    with pytest.raises(ValidationError):
        Figure(value=bad, low=None, high=None, n_tokens=1, n_prompts=1)
    with pytest.raises(ValidationError):
        Curve(axis="depth", at=[0], value=[bad], low=[None], high=[None])


def test_curve_is_written_under_its_axis_and_read_back():
    """The axis lost, or depths turned into 0.0, 1.0, on the way through JSON."""
    curve = Curve(axis="depth", at=[0, 1], value=[0.5, None], low=[None, None], high=[None, None])
    written = curve.model_dump(mode="json")
    assert written == {"depth": [0, 1], "value": [0.5, None], "low": [None, None], "high": [None, None]}
    assert all(isinstance(depth, int) for depth in written["depth"])
    assert Curve.model_validate(written) == curve


def test_curve_refuses_ragged_lists():
    """A band that is shifted against its curve."""
    with pytest.raises(ValidationError, match="equally long"):
        Curve(axis="depth", at=[0, 1], value=[0.5], low=[None], high=[None])


def test_curve_refuses_two_axes():
    """A misspelt column silently taken for the axis."""
    with pytest.raises(ValidationError, match="one axis"):
        Curve.model_validate({"depth": [0], "valeu": [1.0], "low": [None], "high": [None]})
