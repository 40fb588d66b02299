"""Parts of the charts of a study's page."""

import pytest

from exitbench.report.study_charts import training_axis


@pytest.mark.parametrize(
    ("places", "ticks"),
    [
        ([60e3, 80e3], [60e3, 80e3]),
        ([0, 60e3, 80e3], [0, 60e3, 80e3]),
        ([1e3, 4e3], [1e3, 2e3]),
        ([1e2, 1e8], [1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8]),
        ([5e3], [5e3]),
    ],
)
def test_axis_of_training_has_ticks(places, ticks):
    """An axis without a number, between two checkpoints of one decade or of one alone."""
    assert training_axis("step", places).to_dict()["axis"]["values"] == ticks
