"""Profiles of machines, written and read."""

import json

import pytest
from pydantic import ValidationError

from exitbench.errors import CostError, UnknownNameError
from exitbench.replay.profiles import PROFILES, RooflineProfile, TimedPart, load_profile, write_profile
from replay_shapes import PART, measured


@pytest.mark.parametrize("profile", [measured(), measured(completion=None), *PROFILES.values()], ids=lambda p: p.name)
def test_round_trip(profile, tmp_path):
    """A profile that cannot be read back as it was, or is read as one of the other kind."""
    write_profile(profile, tmp_path / "profile.json")
    assert load_profile(str(tmp_path / "profile.json")) == profile


def test_names():
    """A machine that is known under another name than its own, or a figure without a source."""
    for name, profile in PROFILES.items():
        assert load_profile(name) is profile
        assert (profile.name, bool(profile.source)) == (name, True)
    assert PROFILES["h100-sxm"].peak_flops_per_s["bfloat16"] == 989e12  # dense: half of the sheet's figure
    with pytest.raises(UnknownNameError, match="unknown profile 'h99'; expected a100-80gb-sxm, "):
        load_profile("h99")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("not JSON", "is no JSON"),
        ("{}", "is no profile: the file: Unable to extract tag"),
        (json.dumps({"kind": "roofline", "name": "x"}), "is no profile: roofline.source"),
        (json.dumps(PROFILES["h100-sxm"].model_dump() | {"colour": "blue"}), "colour"),
    ],
)
def test_what_is_no_profile(content, said, tmp_path):
    """A traceback, or a profile half read."""
    (tmp_path / "profile.json").write_text(content)
    with pytest.raises(CostError, match=said) as caught:
        load_profile(str(tmp_path / "profile.json"))
    assert "\n" not in str(caught.value)


def test_times_between_measured_rows():
    """A time at the wrong end of an interval, or one made up beyond what was measured."""
    assert [PART.at(rows) for rows in (1, 2, 3, 4)] == [1.0, 1.5, 2.5, 3.5]
    with pytest.raises(CostError, match="times for 1 to 4 rows, got 5; measure more"):
        PART.at(5)


def test_parts_against_the_whole():
    """Parts that do not add up, unnoticed."""
    assert measured().accounted == pytest.approx((3 * 1.0 / 4, 3 * 1.5 / 5, 3 * 3.5 / 9))


@pytest.mark.parametrize(
    "part",
    [
        {"rows": (2, 1), "median_s": (1, 1), "q10_s": (1, 1), "q90_s": (1, 1)},
        {"rows": (1, 2), "median_s": (1,), "q10_s": (1,), "q90_s": (1,)},
        {"rows": (1,), "median_s": (-1,), "q10_s": (1,), "q90_s": (1,)},
        {"rows": (), "median_s": (), "q10_s": (), "q90_s": ()},
    ],
)
def test_times_that_cannot_be(part):
    """Rows without times, in disorder, or a time below zero."""
    with pytest.raises(ValidationError):
        TimedPart(**part)


def test_a_peak_is_positive():
    """A division by zero, much later."""
    with pytest.raises(ValidationError):
        RooflineProfile(name="x", source="y", peak_flops_per_s={"float32": 0}, bandwidth_bytes_per_s=1)
