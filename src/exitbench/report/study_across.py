"""The axes over which a study's page shows a figure of its models: release, size, tokens seen.

Only axes on which two models stand apart are offered.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from exitbench.report.chart_parts import COUNT_LABEL
from exitbench.report.study_cells import Cell

__all__ = ["Axis", "axes_of", "places_of"]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis that the reader may choose."""

    name: str
    title: str
    x: alt.X


_AXES = (
    Axis(
        name="release_month",
        title="release",
        x=alt.X(
            "x:T",
            title="release",
            scale=alt.Scale(type="utc", padding=12),  # local time would show the month before, west of Greenwich
            axis=alt.Axis(format="%Y-%m", tickCount=6, labelSeparation=8),
        ),
    ),
    *(
        Axis(
            name=name,
            title=title,
            x=alt.X(
                "x:Q",
                title=f"{title} (log scale)",
                scale=alt.Scale(type="log", nice=False, padding=12),
                axis=alt.Axis(labelExpr=COUNT_LABEL, tickCount=8, labelSeparation=8),
            ),
        )
        for name, title in (
            ("active_params", "active parameters"),
            ("total_params", "parameters in all"),
            ("tokens_seen", "tokens seen in training"),
        )
    ),
)


def places_of(cell: Cell) -> dict[str, Any]:
    """Where a cell stands on every axis on which that is known; a log axis has no place for 0."""
    row = cell.first
    places = {
        "release_month": row.release_month,
        "active_params": None if row.active_params_b is None else row.active_params_b * 1e9,
        "total_params": None if row.total_params_b is None else row.total_params_b * 1e9,
        "tokens_seen": row.tokens_seen,
    }
    return {name: place for name, place in places.items() if place}


def axes_of(places: Iterable[dict[str, Any]]) -> Sequence[Axis]:
    """The axes on which two of the cells stand apart."""
    known = list(places)
    return [axis for axis in _AXES if len({place[axis.name] for place in known if axis.name in place}) > 1]
