"""What all charts share: the finished form, tooltips, and curves as rows.

A chart is built once, without colours: its marks name a style ("fill", "band", "whisker", "reference",
"marked", "label") and page.js gives every style its colours for light and for dark. The title is a sentence
and stays outside the picture, so that it wraps on a narrow screen and is read out by a screen reader.
"""

from dataclasses import dataclass
from typing import Any

import altair as alt

from exitbench.stats.figure import Curve

__all__ = ["COUNT_LABEL", "SHARE", "Chart", "curve_rows", "finished", "has_band", "interval_tips", "number_tip"]

COUNT_LABEL = "replace(format(datum.value, '~s'), 'G', 'B')"
"""Of large counts on an axis."""
SHARE = ".0%"
"""Number format of an axis that shows a share."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A Vega-Lite specification and the words around it."""

    title: str
    """What the chart shows, as a sentence."""
    note: str
    """How to read it; may be empty."""
    spec: dict[str, Any]


def curve_rows(curve: Curve) -> list[dict[str, Any]]:
    """The points of a curve that have a value, as rows for a chart."""
    columns = zip(curve.at, curve.value, curve.low, curve.high, strict=True)
    return [
        {"at": at, "value": value, "low": low, "high": high} for at, value, low, high in columns if value is not None
    ]


def has_band(curve: Curve) -> bool:
    """Whether any point has an interval."""
    return any(low is not None for low in curve.low)


def number_tip(field: str, title: str, number_format: str) -> alt.Tooltip:
    """One number in a tooltip."""
    return alt.Tooltip(f"{field}:Q", title=title, format=number_format)


def interval_tips(level: str) -> list[alt.Tooltip]:
    """A row's value and interval in a tooltip; `level` as in "95 %"."""
    named = (("value", "value"), ("low", f"{level} low"), ("high", f"{level} high"))
    return [number_tip(field, title, ".3f") for field, title in named]


def finished(layers: list[alt.Chart], *, title: str, note: str, height: int = 260) -> Chart:
    """Layers as one chart as wide as the page allows and `height` pixels high."""
    layered: Any = alt.layer(*layers)
    spec = layered.properties(width="container", height=height, description=title).to_dict()
    return Chart(title=title, note=note, spec=spec)
