"""The page's charts over depth, batch size and category, as Vega-Lite specifications.

`level` is the confidence level of the intervals, as in "95 %". Non-goals: pictures as files, and statistics; a chart
draws the figures of the card and computes none.
"""

from collections.abc import Mapping
from typing import Any

import altair as alt

from exitbench.report.chart_parts import (
    SHARE,
    Chart,
    curve_rows,
    finished,
    has_band,
    interval_tips,
    number_tip,
)
from exitbench.stats.figure import Curve, Figure

__all__ = ["MAX_BARS", "batch_chart", "category_chart", "decided_chart", "depth_chart"]

MAX_BARS = 40
"""Categories drawn at most; the biggest are kept and the chart's note says so."""


def decided_chart(curve: Curve, *, title: str, level: str) -> Chart:
    """The decided curve F(d) with its band.

    Drawn in steps: F(d) is the share of tokens for which block d + 1 could be skipped, so that with blocks
    of equal cost the filled area is EES itself.
    """
    base = _over_depth(curve, level)
    y = _share_axis("share of tokens decided, F(d)")
    steps: Any = {"interpolate": "step-after"}
    layers = [base.mark_area(style="fill", **steps).encode(y=y)]
    if has_band(curve):
        layers.append(base.mark_area(style="band", **steps).encode(y="low:Q", y2="high:Q"))
    layers += [base.mark_line(**steps).encode(y=y), _hover_targets(base).encode(y=y)]
    note = (
        "A token is decided once its top-1 token is the final one and stays so. Decided tokens need no "
        f"further block: with blocks of equal cost, the filled area is EES. The band is the {level} interval."
    )
    return finished(layers, title=title, note=note, height=270)


def depth_chart(curve: Curve, *, y_title: str, title: str, level: str, note: str = "", share: bool = False) -> Chart:
    """A curve over depth with its band; `share` fixes the axis to 0..1."""
    base = _over_depth(curve, level)
    y = _share_axis(y_title) if share else alt.Y("value:Q", title=y_title, scale=alt.Scale(zero=True))
    layers = [base.mark_area(style="band").encode(y="low:Q", y2="high:Q")] if has_band(curve) else []
    layers += [base.mark_line().encode(y=y), _hover_targets(base).encode(y=y)]
    return finished(layers, title=title, note=note)


def batch_chart(curve: Curve, *, title: str, level: str) -> Chart:
    """Savings left when the rows of a batch move in lockstep, by batch size."""
    rows = [
        row | {"label": f"{row['value']:.3f}", "end": row["high"] if row["high"] is not None else row["value"]}
        for row in curve_rows(curve)
    ]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("at:O", title="batch size (rows in lockstep)", axis=alt.Axis(labelAngle=0)),
        tooltip=[number_tip("at", "batch size", "d"), *interval_tips(level)],
    )
    y = alt.Y("value:Q", title="share of blocks' work skipped", axis=alt.Axis(format=SHARE))
    layers = [base.mark_bar(width={"band": 0.5}).encode(y=y)]
    if has_band(curve):
        layers.append(base.mark_rule(style="whisker").encode(y="low:Q", y2="high:Q"))
    layers.append(base.mark_text(style="label", dy=-9).encode(y="end:Q", text="label:N"))
    note = (
        "A block can be skipped for a batch only once every row in it is decided. Rows are taken as "
        f"independent. Whiskers are {level} intervals."
    )
    return finished(layers, title=title, note=note)


def category_chart(figures: Mapping[str, Figure], *, title: str, level: str) -> Chart:
    """EES by category, as bars with intervals, longest first."""
    biggest = sorted(figures, key=lambda name: -figures[name].n_prompts)[:MAX_BARS]
    rows = _bars({name: figures[name] for name in biggest})
    order = [row["name"] for row in rows]
    room = 1.35 * max((row["end"] for row in rows), default=0.0) or 1.0  # for the labels behind the whiskers
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        y=alt.Y("name:N", sort=order, title=None),
        tooltip=[alt.Tooltip("name:N", title="category"), *interval_tips(level), number_tip("n", "prompts", "d")],
    )
    x = alt.X(
        "value:Q",
        title="EES (share of blocks' work skipped)",
        axis=alt.Axis(format=SHARE, tickCount=6),
        scale=alt.Scale(domain=[0, room], nice=False),
    )
    layers = [base.mark_bar(height={"band": 0.6}).encode(x=x)]
    if any(row["low"] is not None for row in rows):
        layers.append(base.mark_rule(style="whisker").encode(x="low:Q", x2="high:Q"))
    layers.append(base.mark_text(style="label", align="left", dx=6).encode(x="end:Q", text="label:N"))
    note = f"Whiskers are {level} intervals, drawn from 10 prompts on; in brackets, the number of prompts."
    if dropped := len(figures) - len(biggest):
        note += f" The {dropped} smallest categories are not drawn."
    return finished(layers, title=title, note=note, height=max(120, 34 * len(rows)))


def _bars(figures: Mapping[str, Figure]) -> list[dict[str, Any]]:
    rows = [
        {
            "name": name,
            "value": figure.value,
            "low": figure.low,
            "high": figure.high,
            "end": figure.value if figure.high is None else figure.high,
            "label": f"{figure.value:.3f} ({figure.n_prompts})",
            "n": figure.n_prompts,
        }
        for name, figure in figures.items()
        if figure.value is not None
    ]
    return sorted(rows, key=lambda row: -row["value"])


def _over_depth(curve: Curve, level: str) -> alt.Chart:
    x = alt.X(
        "at:Q",
        title="depth (blocks executed)",
        scale=alt.Scale(domain=[0, max(curve.at)], nice=False),
        axis=alt.Axis(tickMinStep=1, format="d"),
    )
    tips = [number_tip("at", "depth", "d"), *interval_tips(level)]
    return alt.Chart(alt.InlineData(values=curve_rows(curve))).encode(x=x, tooltip=tips)


def _hover_targets(base: alt.Chart) -> Any:
    return base.mark_point(size=60, opacity=0)


def _share_axis(title: str) -> alt.Y:
    return alt.Y("value:Q", title=title, axis=alt.Axis(format=SHARE), scale=alt.Scale(domain=[0, 1]))
