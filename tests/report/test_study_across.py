"""Where models stand on the axes of a study's page."""

from exitbench.report.study_across import axes_of, places_of
from exitbench.report.study_cells import cells_of
from study_rows import row


def places(**facts):
    return places_of(cells_of([row(**facts)])[0])


def test_places_are_those_of_the_model():
    """A size in other units than tokens, or what is not known as 0."""
    known = places(release_month="2024-05", active_params_b=0.5, total_params_b=2.0, tokens_seen=7)
    assert known == {"release_month": "2024-05", "active_params": 5e8, "total_params": 2e9, "tokens_seen": 7}
    assert places() == {}


def test_no_place_at_0_on_a_log_axis():
    """A checkpoint before training that a log axis complains about."""
    assert places(tokens_seen=0) == {}


def test_axes_on_which_models_stand_apart():
    """An axis with one point, or with all models at the same place."""
    found = [places(active_params_b=1.0, release_month=month) for month in ("2024-01", "2025-01")]
    assert [axis.name for axis in axes_of(found)] == ["release_month"]
    assert list(axes_of(found[:1])) == []
