"""The frontier chart: what a confidence threshold saves against what it changes."""

from dataclasses import dataclass
from typing import Any, Literal

import altair as alt

from exitbench.replay.frontier import Frontier
from exitbench.report.chart_parts import SHARE, Chart, finished, has_band, number_tip
from exitbench.stats.figure import Figure

__all__ = ["MAX_DISAGREEMENT", "FrontierPoint", "disagreement_axis", "frontier_chart", "frontier_rows"]

MAX_DISAGREEMENT = 0.25
"""Nobody wants a quarter of the tokens changed; looser thresholds would squeeze the rest of the chart."""
_FEWEST_THRESHOLDS = 10
"""Where fewer thresholds than this save anything below `MAX_DISAGREEMENT`, the whole curve is drawn instead."""
_TICKS = [0, 0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1]
_AT_AXIS = 0.003
_Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class FrontierPoint:
    """A labelled point over the frontier."""

    label: str
    savings: float
    disagreement: float


def frontier_chart(
    frontier: Frontier, *, points: list[FrontierPoint], ceiling: Figure, title: str, level: str
) -> Chart:
    """Savings against disagreement of the top-1-probability threshold.

    Args:
        frontier: the curve, measured on the tokens it is drawn for.
        points: what is marked over it: the cross-fitted AES at its realised disagreement.
        ceiling: EES, drawn as a level: what leaving exactly when a prediction has settled skips.
        title: the chart's sentence.
        level: confidence level of the intervals, as in "95 %".
    """
    rows, widest = frontier_rows(frontier), 1.0
    near = [row for row in rows if row["disagreement"] <= MAX_DISAGREEMENT]
    if sum(row["savings"] > 0 for row in near) >= _FEWEST_THRESHOLDS:
        rows, widest = near, max([MAX_DISAGREEMENT, *(point.disagreement for point in points)])
    reached = [ceiling.value or 0.0, *(row["high"] or row["savings"] for row in rows)]
    top = min(1.0, 1.15 * max(reached)) or 1.0
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X(
            "disagreement:Q",
            **disagreement_axis(widest),
        ),
        y=alt.Y(
            "savings:Q",
            title="share of blocks' work skipped",
            axis=alt.Axis(format=SHARE),
            scale=alt.Scale(domain=[0, top], nice=False),
        ),
    )
    layers = [base.mark_area(style="band").encode(y="low:Q", y2="high:Q")] if has_band(frontier.savings) else []
    tips = [
        number_tip("at", "threshold", ".6~f"),
        number_tip("disagreement", "tokens changed", ".2%"),
        number_tip("savings", "work skipped", ".1%"),
    ]
    layers += [base.mark_line().encode(order="at:Q"), base.mark_point(size=60, opacity=0).encode(tooltip=tips)]
    layers += _ceiling_layers(ceiling) + _point_layers(points)
    note = (
        "Each point of the curve is one threshold on the top-1 probability, chosen and measured on the same "
        f"tokens; the band is the {level} interval of the savings. Diamonds are cross-fitted, measured on other "
        "prompts than the threshold was chosen on: quote these. The dashed line is EES: leaving exactly "
        "when the prediction has settled, with no token changed."
        + (f" Beyond {widest:.0%} of tokens changed nothing is drawn." if widest < 1 else "")
    )
    return finished(layers, title=title, note=note, height=320)


def disagreement_axis(widest: float) -> dict[str, Any]:
    """Symlog near 0, where the operating points are; linear where the whole range has to be shown."""
    if widest == 1:
        return {
            "title": "share of tokens changed",
            "scale": alt.Scale(domain=[0, 1]),
            "axis": alt.Axis(format=SHARE),
        }
    return {
        "title": "share of tokens changed (symlog scale)",
        "scale": alt.Scale(type="symlog", constant=0.003, domain=[0, widest], nice=False),
        "axis": alt.Axis(values=[tick for tick in _TICKS if tick <= widest], format=".1~%"),
    }


def frontier_rows(frontier: Frontier) -> list[_Row]:
    """The thresholds of a frontier that have values, as rows for a chart."""
    savings, disagreement = frontier.savings, frontier.disagreement
    assert savings.at == disagreement.at, (len(savings.at), len(disagreement.at))
    columns = zip(savings.at, savings.value, savings.low, savings.high, disagreement.value, strict=True)
    return [
        {"at": at, "savings": value, "low": low, "high": high, "disagreement": share}
        for at, value, low, high, share in columns
        if value is not None and share is not None
    ]


def _ceiling_layers(ceiling: Figure) -> list[alt.Chart]:
    if ceiling.value is None:
        return []
    label = f"EES {ceiling.value:.3f}"
    base = alt.Chart(alt.InlineData(values=[{"savings": ceiling.value, "label": label, "disagreement": 0}]))
    rule = base.mark_rule(style="reference").encode(y="savings:Q")
    text = base.mark_text(style="label", align="left", dx=6, dy=-8)
    return [rule, text.encode(x="disagreement:Q", y="savings:Q", text="label:N")]


def _point_layers(points: list[FrontierPoint]) -> list[alt.Chart]:
    layers = []
    for number, point in enumerate(points):
        row = {
            "disagreement": point.disagreement,
            "savings": point.savings,
            "label": f"{point.label}: {point.savings:.3f}",
        }
        base = alt.Chart(alt.InlineData(values=[row])).encode(x="disagreement:Q", y="savings:Q")
        tips = [
            alt.Tooltip("label:N", title="point"),
            number_tip("disagreement", "tokens really changed", ".2%"),
        ]
        mark = base.mark_point(style="marked", shape="diamond", filled=True, size=110).encode(tooltip=tips)
        # The curve rises to the right, so labels stand on the left; at the axis there is no room there. Labels of
        # coinciding points (at 0 above all) stand one beyond the other.
        away = 15 * sum(_is_close(point, other) for other in points[:number])
        side: Literal["left", "right"] = "left" if point.disagreement < _AT_AXIS else "right"
        text = base.mark_text(style="label", align=side, dx=9 if side == "left" else -9, dy=-9 - away)
        layers += [mark, text.encode(text="label:N")]
    return layers


def _is_close(point: FrontierPoint, other: FrontierPoint) -> bool:
    return abs(point.disagreement - other.disagreement) < 0.01 and abs(point.savings - other.savings) < 0.02
