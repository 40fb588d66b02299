"""Charts of a study, without their numbers: the page's script and the pictures put rows of the same form into them.

Rows of a chart are named "rows"; their columns stand with each chart, as do the signals that are set with them. A
missing end of an interval, or a missing null, has the place of the value, since scales without data would complain.
Colours come from the page, see `chart_parts`.
"""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt

from exitbench.report.chart_parts import COUNT_LABEL, SHARE, number_tip

__all__ = [
    "ROWS",
    "across",
    "batches",
    "curves",
    "dots",
    "frontiers",
    "heat_map",
    "loss_axis",
    "matrix",
    "progress",
    "training_axis",
]

ROWS = alt.NamedData(name="rows")
"""No rows yet."""
_SIZE_LABEL = "format(logarithmic ? pow(10, datum.value) : datum.value, '.3~g')"
_MODEL_TIP = alt.Tooltip("name:N", title="model")
_TOLD: dict[str, Any] = {"tooltip": alt.Tooltip("told:N"), "description": alt.Description("told:N")}
"""Of a null, in words; none where there is none."""
_STEP_TIP = alt.Tooltip("label:N", title="checkpoint")
_INTERVAL_TIPS = (number_tip("value", "value", ".3f"), alt.Tooltip("interval:N", title="interval"))
_FAINT = alt.condition("datum.chosen", alt.value(1), alt.value(0.5))
WIDTH = 520
"""Of a picture, in pixels; on the page charts are as wide as there is room."""
_SYMBOL, _LETTER = 30, 7
"""Pixels that an entry of a legend takes; study.js counts with the same."""
_ROOM = 260
COLOURS = 8
"""That can be told apart."""
_FEW_DECADES = 4
"""Up to so many, an axis of counts has ticks within them."""
_QUARTERS = [0.0, 0.25, 0.5, 0.75, 1.0]


def heat_map(data: Any, *, axis: str, logarithmic: bool = False) -> list[alt.Chart]:
    """One figure over checkpoints and depth.

    Columns: x (of a checkpoint, lines parted by bars), label, depth, colour (the value or its logarithm), value.
    Signal: logarithmic.
    """
    base = alt.Chart(data).encode(
        x=alt.X(
            "x:O",
            sort=None,
            title="checkpoint: training step and tokens seen" if axis == "tokens_seen" else "checkpoint: training step",
            axis=alt.Axis(labelExpr="split(datum.label, '|')", labelAngle=0, labelSeparation=6, ticks=False),
        ),
        y=_depth("depth", "depth (blocks executed)"),
        color=alt.Color("colour:Q", title=None, scale=alt.Scale(zero=False, nice=False), legend=_ramp(_SIZE_LABEL)),
        tooltip=[
            alt.Tooltip("label:N", title="checkpoint"),
            number_tip("depth", "depth", "d"),
            number_tip("value", "value", ".4~g"),
        ],
    )
    return [base.mark_rect().add_params(alt.param(name="logarithmic", value=logarithmic))]


def matrix(data: Any, *, least: float = 0.0, most: float = 1.0) -> list[alt.Chart]:
    """A figure of two depths at one checkpoint, both halves.

    Columns: a, b (depths), value. Signals: least, most (ends of the colours, the same for all checkpoints).
    """
    scale = alt.Scale(domainMin=alt.ExprRef("least"), domainMax=alt.ExprRef("most"), zero=False, nice=False, clamp=True)
    base = alt.Chart(data).encode(
        x=alt.X("a:O", title="depth", axis=alt.Axis(labelAngle=0, ticks=False)),
        y=_depth("b", "depth"),
        color=alt.Color("value:Q", title=None, scale=scale, legend=_ramp("format(datum.value, '.3~g')")),
        tooltip=[
            number_tip("a", "depth", "d"),
            number_tip("b", "and depth", "d"),
            number_tip("value", "value", ".4~g"),
        ],
    )
    ends = [alt.param(name="least", value=least), alt.param(name="most", value=most)]
    return [base.mark_rect().add_params(*ends)]


def progress(data: Any, *, x: alt.X, levels: Sequence[str] = (), drawn: Sequence[str] = ()) -> list[alt.Chart]:
    """EES of every checkpoint, joined by model in the order of training; the untrained null of the chosen model.

    Columns: what ("checkpoint" or "null"), name, group, order, x, value, low, high, interval, chosen, label, told
    (words of the null). Signals: as `_levels`.
    """
    base = alt.Chart(data).transform_filter("datum.what == 'checkpoint'")
    points = base.encode(x=x, y=_ees_axis(), color=_group(), opacity=_FAINT)
    tips = [_MODEL_TIP, _STEP_TIP, number_tip("x", str(x["title"]), ",.4~g"), *_INTERVAL_TIPS]
    null = alt.Chart(data).transform_filter("datum.what == 'null'").encode(**_TOLD)
    return [
        null.mark_rect(style="reference").encode(y=alt.Y("low:Q"), y2="high:Q", opacity=_where_told(0.12)),
        null.mark_rule(style="reference").encode(y="value:Q", opacity=_where_told(1)),
        points.mark_rule(strokeWidth=1.5).encode(y="low:Q", y2="high:Q").add_params(*_levels(levels, drawn)),
        points.mark_line(strokeWidth=2).encode(detail="name:N", order="order:Q"),
        points.mark_point(cursor="pointer", filled=True, size=45).encode(tooltip=tips),
    ]


def training_axis(axis: str, places: list[float]) -> alt.X:
    """Horizontal axis of tokens seen or steps: logarithmic, with room for a checkpoint at 0."""
    positive = [place for place in places if place > 0]
    title = "tokens seen in training" if axis == "tokens_seen" else "training step"
    least, most = min(positive, default=1), max(positive, default=1)
    decades = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    within = (1, 2, 5) if math.log10(most / least) <= _FEW_DECADES else (1,)
    ticks = [tick for k in decades for times in within if least <= (tick := times * 10.0**k) <= most]
    if len(ticks) < 2:  # one tick gives no scale
        ticks = sorted({least, most})
    if len(positive) == len(places):
        scale, words = alt.Scale(type="log", nice=False), "log scale"
    else:
        scale, words, ticks = alt.Scale(type="symlog", constant=least, nice=False), "symlog scale", [0, *ticks]
    axes = alt.Axis(labelExpr=COUNT_LABEL, values=ticks, labelSeparation=6)
    return alt.X("x:Q", title=f"{title} ({words})", scale=scale, axis=axes)


def loss_axis(title: str) -> alt.X:
    """Horizontal axis of how well a model predicts, better to the right."""
    return alt.X("x:Q", title=title, scale=alt.Scale(zero=False, reverse=True), axis=alt.Axis(tickCount=6))


def curves(data: Any, *, levels: Sequence[str] = (), drawn: Sequence[str] = ()) -> list[alt.Chart]:
    """Decided curves over the share of blocks executed.

    Columns: name, group, x (share of blocks), depth, value.
    Signals: as `_levels`.
    """
    shares = alt.Axis(format=SHARE, values=_QUARTERS)
    base = alt.Chart(data).encode(
        x=alt.X("x:Q", title="blocks executed, share", axis=shares, scale=alt.Scale(domain=[0, 1])),
        y=alt.Y(
            "value:Q",
            title="share of tokens decided, F(d)",
            axis=shares,
            scale=alt.Scale(domain=[0, 1]),
        ),
        color=_group(),
        detail="name:N",
    )
    tips = [
        _MODEL_TIP,
        alt.Tooltip("group:N"),
        number_tip("depth", "depth", "d"),
        number_tip("value", "decided", ".1%"),
    ]
    return [
        base.mark_line(strokeWidth=1.8, interpolate="step-after").add_params(*_levels(levels, drawn)),
        base.mark_point(cursor="pointer", size=50, opacity=0).encode(tooltip=tips),
    ]


def dots(data: Any, *, levels: Sequence[str] = (), drawn: Sequence[str] = ()) -> list[alt.Chart]:
    """One figure of each model with its interval, and the untrained null as a tick.

    Columns: name, group, value, low, high, interval, null, told (words of the null), n. Signals: as `_levels`.
    """
    base = alt.Chart(data).encode(
        y=alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=alt.ExprRef("room")))
    )
    few = alt.Axis(tickCount=6, labelSeparation=6)
    x = alt.X("value:Q", title=None, axis=few, scale=alt.Scale(zero=False, padding=12))
    tips = [_MODEL_TIP, alt.Tooltip("group:N"), *_INTERVAL_TIPS, number_tip("n", "tokens", ",d")]
    coloured = base.encode(color=_group())
    null = base.mark_tick(style="reference", thickness=3, strokeDash=[])
    return [
        null.encode(x="null:Q", opacity=_where_told(1), **_TOLD),
        coloured.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q").add_params(*_levels(levels, drawn)),
        coloured.mark_point(cursor="pointer", filled=True, opacity=1, size=75).encode(x=x, tooltip=tips),
    ]


def across(data: Any, *, x: alt.X, levels: Sequence[str] = (), drawn: Sequence[str] = ()) -> list[alt.Chart]:
    """One figure of each model with its interval, over what is known of the model.

    Columns: name, group, x, value, low, high, interval. Signals: as `_levels`.
    """
    base = alt.Chart(data).encode(x=x, color=_group())
    y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False, padding=10))
    tips = [_MODEL_TIP, alt.Tooltip("group:N"), alt.Tooltip("place:N", title="at"), *_INTERVAL_TIPS]
    return [
        base.mark_rule(strokeWidth=1.5).encode(y="low:Q", y2="high:Q").add_params(*_levels(levels, drawn)),
        base.mark_point(cursor="pointer", filled=True, opacity=1, size=65).encode(y=y, tooltip=tips),
    ]


def batches(data: Any, *, levels: Sequence[str] = (), drawn: Sequence[str] = ()) -> list[alt.Chart]:
    """What is left to skip where rows are decoded together and leave only together.

    Columns: name, group, x (rows), value. Signals: as `_levels`.
    """
    base = alt.Chart(data).encode(
        x=alt.X("x:Q", title="rows decoded together (log scale)", scale=alt.Scale(type="log", base=2)),
        y=alt.Y("value:Q", title="share of the blocks' work", scale=alt.Scale(zero=True)),
        color=_group(),
        detail="name:N",
    )
    tips = [_MODEL_TIP, alt.Tooltip("group:N"), number_tip("x", "rows", "d"), number_tip("value", "share", ".3f")]
    return [
        base.mark_line(strokeWidth=1.8).add_params(*_levels(levels, drawn)),
        base.mark_point(cursor="pointer", filled=True, size=40).encode(tooltip=tips),
    ]


def frontiers(data: Any, *, levels: Sequence[str] = (), drawn: Sequence[str] = ()) -> list[alt.Chart]:
    """What the policies of one model save against what they change, a line a policy with its probes.

    Columns: name (policy with probes), group (policy), target, x (disagreement), value (saving). Signals: as `_levels`.
    """
    shares = alt.Axis(format=".1~%", tickCount=6)
    base = alt.Chart(data).encode(
        x=alt.X("x:Q", title="tokens changed, share", axis=shares, scale=alt.Scale(zero=True)),
        y=alt.Y("value:Q", title="saved, share", axis=shares, scale=alt.Scale(zero=True)),
        color=_group(),
        detail="name:N",
    )
    shapes = ["circle"] * COLOURS + ["triangle-up"] * COLOURS  # the second eight have the colours of the first
    scale = alt.Scale(domain=alt.ExprRef("levels"), range=shapes)
    shape = alt.Shape("group:N", title=None, scale=scale, legend=_legend())
    tips = [
        alt.Tooltip("name:N", title="policy"),
        alt.Tooltip("target:N", title="held to"),
        number_tip("x", "changed", ".2%"),
        number_tip("value", "saved", ".1%"),
    ]
    return [
        base.mark_line(strokeWidth=1.2, opacity=0.6).encode(order="x:Q").add_params(*_levels(levels, drawn)),
        base.mark_point(cursor="pointer", filled=True, opacity=1, size=45).encode(tooltip=tips, shape=shape),
    ]


def _depth(field: str, title: str) -> alt.Y:
    return alt.Y(f"{field}:O", sort="descending", title=title, axis=alt.Axis(ticks=False))


def _ees_axis() -> alt.Y:
    return alt.Y("value:Q", title="EES", scale=alt.Scale(zero=True))


def _group() -> alt.Color:
    scale = alt.Scale(domain=alt.ExprRef("levels"))
    return alt.Color("group:N", title=None, scale=scale, legend=_legend())


def _legend() -> alt.Legend:
    columns, room, drawn = map(alt.ExprRef, ("columns", "room", "drawn"))
    return alt.Legend(orient="bottom", columns=columns, labelLimit=room, values=drawn, symbolOpacity=1)


def _levels(levels: Sequence[str], drawn: Sequence[str]) -> list[Any]:
    """Signals: levels, all groups, so that a colour means the same in every chart; drawn, those in this.

    And room, pixels of the longest label; columns, as many as the legend has room for.
    """
    columns = max(1, WIDTH // (_SYMBOL + _LETTER * max(map(len, drawn), default=0)))
    values = {"levels": list(levels), "drawn": list(drawn), "columns": columns, "room": _ROOM}
    return [alt.param(name=name, value=value) for name, value in values.items()]


def _ramp(label: str) -> alt.Legend:
    return alt.Legend(orient="right", labelExpr=label, gradientLength=180)


def _where_told(opacity: float) -> Any:
    return alt.condition("datum.told != ''", alt.value(opacity), alt.value(0))
