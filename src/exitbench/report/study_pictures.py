"""The page's charts as picture files, for documents: drawn offline, with the numbers that the page has.

Of each thing measured on: how figures by depth change in training (a panel a model), the matrix of depths at
checkpoints, EES in training, EES against loss, the models compared in every figure and over every axis, their decided
curves, batches, and policies (a panel a model). Charts that have their numbers already, of findings and of single
results, are drawn as they are.

Non-goals: choices; a picture shows all models at once, or the first few where each has a panel.
"""

import math
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any, Literal

import altair as alt

from exitbench.errors import ReportError
from exitbench.report import study_charts
from exitbench.report.chart_parts import Chart
from exitbench.report.study_across import axes_of
from exitbench.report.study_cells import cells_of
from exitbench.report.study_figures import Shown
from exitbench.report.study_payload import Payload, payload_of
from exitbench.study.rows import Row

__all__ = ["study_pictures"]

MAX_PANELS = 8
"""Models with a panel each."""
_MATRICES = 5
"""Checkpoints of a model whose matrices are drawn, spread evenly."""
_RAMP = ["#efefeb", "#d5efc3", "#a5dcc0", "#6cc5cd", "#4aa3cf", "#225ea8", "#0c2c84"]
_CATEGORY = ["#0067a8", "#c04f00", "#333333", "#9980ff", "#800000", "#cc8066", "#3300b3", "#806680"]
_STYLES = {
    "fill": {"color": "#0067a8", "opacity": 0.18},
    "band": {"color": "#0067a8", "opacity": 0.28},
    "whisker": {"color": "#1c2126", "strokeWidth": 1.5},
    "reference": {"color": "#59636e", "strokeDash": [5, 4]},
    "marked": {"color": "#c04f00", "opacity": 1},
    "label": {"color": "#1c2126", "fontSize": 12},
}
"""As page.js has them in light."""
_COLUMNS = 3
"""Of panels."""
_Cells = list[dict[str, Any]]


def study_pictures(
    rows: Sequence[Row],
    folder: Path,
    *,
    form: Literal["png", "svg"] = "png",
    charts: Iterable[tuple[str, Chart]] = (),
) -> list[Path]:
    """Write a picture for everything that the rows can show, and return their paths; none where no cell was measured.

    Args:
        rows: all rows of a study.
        folder: made if it is missing and something is drawn; files of the same names are replaced.
        form: of the files; PNG at twice the size.
        charts: others to be drawn, each with the name of its file.

    Raises:
        ReportError: the folder is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ReportError(f"{folder} is a file, and pictures go into a folder; give another with --out")
    payload = payload_of(cells_of(rows))
    written: list[Path] = []

    def write(name: str, suffix: str, chart: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / (re.sub(r"[^\w-]", "-", name) + suffix + f".{form}")
        _styled(chart).save(path, scale_factor=2 if form == "png" else 1)
        written.append(path)

    for name, made in charts:
        drawn = alt.LayerChart.from_dict(made.spec)
        write(name, "", drawn.properties(width=study_charts.WIDTH, title=textwrap.wrap(made.title, 80)))
    for number, context in enumerate(payload.contexts):
        cells = [cell for cell in payload.cells if cell["context"] == number]
        suffix = "" if len(payload.contexts) == 1 else f"-{number + 1}-" + re.sub(r"\W+", "-", context).strip("-")
        for name, chart in (*_training(payload, cells), *_compared(payload, cells)):
            write(name, suffix, chart)
    return written


def _training(payload: Payload, cells: _Cells) -> Iterator[tuple[str, Any]]:
    training = [cell for cell in cells if cell["place"] is not None]
    for figure in payload.by_depth:
        if drawn := _heat(payload, training, figure):
            yield f"depth-{figure.name}", drawn
    for figure in payload.by_pair:
        if drawn := _matrices(payload, training, figure):
            yield f"depths-{figure.name}", drawn
    if points := _progress_rows(payload, training, lambda cell: cell["at"]):
        axis = study_charts.training_axis(payload.axis, [point["x"] for point in points])
        yield "ees-in-training", _progress(payload, points, axis, "EES in training, with intervals")
    if points := _progress_rows(payload, training, lambda cell: cell["plain"].get("bits_per_character", [None])[0]):
        axis = study_charts.loss_axis("bits per character, better to the right")
        yield "ees-against-bits", _progress(payload, points, axis, "EES against bits per character")
    elif points := _progress_rows(payload, training, lambda cell: cell["loss"]):
        axis = study_charts.loss_axis("loss (nats a token), better to the right")
        yield "ees-against-loss", _progress(payload, points, axis, "EES against loss")


def _compared(payload: Payload, cells: _Cells) -> Iterator[tuple[str, Any]]:
    levels = _levels(payload)
    ended = [cell for cell in cells if cell["ended"]]
    for figure in payload.plain:
        if rows := [_point(payload, cell, figure.name) for cell in ended if figure.name in cell["plain"]]:
            rows.sort(key=lambda row: -row["value"])
            title = f"{figure.title} of each model with its interval"
            if any(row["told"] for row in rows):
                title += "; grey: untrained models of its shape"
            yield (
                f"models-{figure.name}",
                _drawn(study_charts.dots, rows, title, levels, width=560, height=22 * len(rows)),
            )
    with_ees = [cell for cell in ended if "ees" in cell["plain"]]
    for axis in axes_of(cell["across"] for cell in with_ees):
        placed = [cell for cell in with_ees if axis.name in cell["across"]]
        rows = [_point(payload, cell, "ees") | {"x": cell["across"][axis.name]} for cell in placed]
        title = f"EES over {axis.title}, with intervals"
        yield f"ees-over-{axis.name}", _drawn(partial(study_charts.across, x=axis.x), rows, title, levels)
    if rows := [row for cell in ended for row in _curve(payload, cell)]:
        title = "Decided curves, each model at its last checkpoint"
        yield "decided-curves", _drawn(study_charts.curves, rows, title, levels)
    if rows := [row for cell in ended for row in _batch(payload, cell)]:
        yield "batches", _drawn(study_charts.batches, rows, "What is left to skip in batches", levels)
    yield from _policies(payload, [cell for cell in ended if cell["held"]][:MAX_PANELS])


def _policies(payload: Payload, replayed: _Cells) -> Iterator[tuple[str, Any]]:
    levels = list(dict.fromkeys(name.split(" ")[0] for name in payload.policies))
    for place, saved in enumerate(("blocks", "flops", "bytes")):
        panels = [(cell["name"], rows) for cell in replayed if (rows := _held(payload, cell, place))]
        shown = {row["group"] for _, rows in panels for row in rows}
        drawn = [_drawn(study_charts.frontiers, rows, name, levels, shown=shown, width=300) for name, rows in panels]
        if drawn:
            title = f"What policies change, and what they save of {saved}"
            yield f"policies-{saved}", alt.concat(*drawn, columns=_COLUMNS).properties(title=title)


def _heat(payload: Payload, training: _Cells, figure: Shown) -> Any:
    shown = [cell for cell in training if figure.name in cell["by_depth"]]
    values = [v for cell in shown for v in cell["by_depth"][figure.name] if v is not None]
    logarithmic = figure.logarithmic and all(value > 0 for value in values)
    panels = []
    for model in _models(shown):
        rows = [
            {
                "x": "|".join(cell["when"]).removeprefix("step ").removesuffix(" tokens"),
                "label": ", ".join(cell["when"]),
                "depth": depth,
                "value": value,
                "colour": math.log10(value) if logarithmic else value,
            }
            for cell in _ordered(shown, model)
            for depth, value in enumerate(cell["by_depth"][figure.name])
            if value is not None
        ]
        layers = study_charts.heat_map(alt.InlineData(values=rows), axis=payload.axis, logarithmic=logarithmic)
        width = 44 * len({row["x"] for row in rows}) + 40
        panels.append(alt.layer(*layers).properties(width=width, height=260, title=payload.models[model]))
    return _side_by_side(panels, figure.title)


def _matrices(payload: Payload, training: _Cells, figure: Shown) -> Any:
    shown = [cell for cell in training if figure.name in cell["by_pair"]]
    values = [v for cell in shown for v in cell["by_pair"][figure.name]["values"] if v is not None]
    lines = []
    for model in _models(shown)[:4]:
        cells = _ordered(shown, model)
        kept = sorted({round(i * (len(cells) - 1) / (_MATRICES - 1)) for i in range(_MATRICES)})
        panels = []
        for index in kept:
            data = alt.InlineData(values=_matrix_rows(cells[index]["by_pair"][figure.name]))
            layers = study_charts.matrix(data, least=min(values), most=max(values))
            title = [payload.models[model], ", ".join(cells[index]["when"])]
            panels.append(alt.layer(*layers).properties(width=170, height=170, title=title))
        lines.append(alt.hconcat(*panels))
    return alt.vconcat(*lines).properties(title=figure.title) if lines else None


def _matrix_rows(packed: dict[str, list[Any]]) -> list[dict[str, Any]]:
    depths, values = packed["depths"], iter(packed["values"])
    pairs = [(low, high, next(values)) for place, high in enumerate(depths) for low in depths[: place + 1]]
    known = [(low, high, value) for low, high, value in pairs if value is not None]
    mirrored = [(high, low, value) for low, high, value in known if low != high]
    return [{"a": a, "b": b, "value": value} for a, b, value in known + mirrored]


def _progress_rows(payload: Payload, training: _Cells, across: Any) -> list[dict[str, Any]]:
    return [
        {
            "what": "checkpoint",
            "name": payload.models[cell["model"]],
            "group": _group(payload, cell),
            "order": cell["place"],
            "x": across(cell),
            **_named(cell["plain"]["ees"]),
            "chosen": True,
            "label": ", ".join(cell["when"]),
        }
        for cell in training
        if "ees" in cell["plain"] and across(cell) is not None
    ]


def _progress(payload: Payload, points: list[dict[str, Any]], axis: alt.X, title: str) -> Any:
    return _drawn(partial(study_charts.progress, x=axis), points, title, _levels(payload))


def _drawn(
    layers: Callable[..., list[alt.Chart]],
    rows: list[dict[str, Any]],
    title: str,
    levels: Sequence[str],
    *,
    shown: Set[str] | None = None,
    width: int = study_charts.WIDTH,
    height: int = 300,
) -> Any:
    """A chart of rows, coloured by their groups.

    Args:
        layers: maker of its layers.
        rows: of the chart.
        title: of the chart.
        levels: groups of all charts, for the same colours in each.
        shown: groups that the legend names; those of the rows if left out.
        width: in pixels, as is `height`.
        height: of the plot.
    """
    named = {row["group"] for row in rows} if shown is None else shown
    drawn = [level for level in levels if level in named]
    made = layers(alt.InlineData(values=rows), levels=levels, drawn=drawn)
    return alt.layer(*made).properties(title=title, width=width, height=height)


def _point(payload: Payload, cell: dict[str, Any], figure: str) -> dict[str, Any]:
    found, shown = _named(cell["plain"][figure]), figure == "ees" and cell["null"] is not None
    null = cell["null"][0] if shown else found["value"]
    told = "untrained" if shown else ""
    return {"name": cell["name"], "group": _group(payload, cell), **found, "null": null, "told": told}


def _curve(payload: Payload, cell: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for depth, value in enumerate(cell["by_depth"].get("decided", ())):
        if value is not None:
            yield {"name": cell["name"], "group": _group(payload, cell), "x": depth / cell["blocks"], "value": value}


def _batch(payload: Payload, cell: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for at, value in cell["batch"]:
        if value is not None:
            yield {"name": cell["name"], "group": _group(payload, cell), "x": at, "value": value}


def _held(payload: Payload, cell: dict[str, Any], saved: int) -> list[dict[str, Any]]:
    """What each policy of a model changes and saves."""
    named = [(payload.policies[policy], changed, found[saved]) for policy, _, changed, *found in cell["held"]]
    return [
        {"name": name, "group": name.split(" ")[0], "x": changed, "value": value}
        for name, changed, value in named
        if changed is not None and value is not None
    ]


def _named(interval: list[float | None]) -> dict[str, Any]:
    value, low, high = interval
    return {"value": value, "low": value if low is None else low, "high": value if high is None else high}


def _levels(payload: Payload) -> list[str]:
    return sorted({_group(payload, cell) for cell in payload.cells})


def _group(payload: Payload, cell: dict[str, Any]) -> str:
    return next(iter(payload.groups.values()))[cell["model"]] or "not known"


def _models(cells: _Cells) -> list[int]:
    return list(dict.fromkeys(cell["model"] for cell in cells))[:MAX_PANELS]


def _ordered(cells: _Cells, model: int) -> _Cells:
    return sorted((cell for cell in cells if cell["model"] == model), key=lambda cell: cell["place"])


def _side_by_side(panels: list[Any], title: str) -> Any:
    """Panels with one scale of colours and their own depths."""
    if not panels:
        return None
    return alt.hconcat(*panels).resolve_scale(color="shared", x="independent", y="independent").properties(title=title)


def _styled(chart: Any) -> Any:
    return (
        chart.configure(style=_STYLES)
        .configure_view(stroke=None)
        .configure_range(heatmap=_RAMP, category=_CATEGORY)
        .configure_mark(color=_CATEGORY[0])
        .configure_legend(symbolType="stroke", symbolStrokeWidth=2.5)
        .configure_title(fontSize=14, anchor="start")
        .configure_axis(labelOverlap="greedy", gridColor="#e8eae6")
    )
