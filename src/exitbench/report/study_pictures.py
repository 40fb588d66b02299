"""The page's charts as picture files, for documents: drawn offline, with the numbers that the page has.

Of each thing measured on: how figures by depth change in training (a panel a model), the matrix of depths at
checkpoints, EES in training, EES against loss, and the models compared.

Non-goals: choices; a picture shows all models at once.
"""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import altair as alt

from exitbench.report import study_charts
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
_Cells = list[dict[str, Any]]


def study_pictures(rows: Sequence[Row], folder: Path, *, form: Literal["png", "svg"] = "png") -> list[Path]:
    """Write a picture for everything that the rows can show, and return their paths; none where no cell was measured.

    Args:
        rows: all rows of a study.
        folder: made if it is missing; files of the same names are replaced.
        form: of the files; PNG at twice the size.
    """
    payload = payload_of(cells_of(rows))
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, context in enumerate(payload.contexts):
        cells = [cell for cell in payload.cells if cell["context"] == number]
        suffix = "" if len(payload.contexts) == 1 else f"-{number + 1}-" + re.sub(r"\W+", "-", context).strip("-")
        for name, chart in _charts(payload, cells):
            path = folder / (re.sub(r"[^\w-]", "-", name) + suffix + f".{form}")
            _styled(chart).save(path, scale_factor=2 if form == "png" else 1)
            written.append(path)
    return written


def _charts(payload: Payload, cells: _Cells) -> Iterator[tuple[str, Any]]:
    training = [cell for cell in cells if cell["place"] is not None]
    for figure in payload.by_depth:
        if drawn := _heat(payload, training, figure):
            yield f"depth-{figure.name}", drawn
    for figure in payload.by_pair:
        if drawn := _matrices(payload, training, figure):
            yield f"depths-{figure.name}", drawn
    if points := _progress_rows(payload, training, lambda cell: cell["at"]):
        axis = study_charts.training_axis(payload.axis, [point["x"] for point in points])
        yield "ees-in-training", _progress(points, axis, "EES in training, with 95 % intervals")
    if points := _progress_rows(payload, training, lambda cell: cell["plain"].get("bits_per_character", [None])[0]):
        axis = study_charts.loss_axis("bits per character, better to the right")
        yield "ees-against-bits", _progress(points, axis, "EES against bits per character")
    elif points := _progress_rows(payload, training, lambda cell: cell["loss"]):
        axis = study_charts.loss_axis("loss (nats a token), better to the right")
        yield "ees-against-loss", _progress(points, axis, "EES against loss")
    ended = [cell for cell in cells if cell["ended"] and "ees" in cell["plain"]]
    if ended:
        rows = sorted((_dot(payload, cell) for cell in ended), key=lambda row: -row["value"])
        layers = study_charts.dots(alt.InlineData(values=rows), levels=_levels(rows))
        title = "EES of each model with its 95 % interval"
        if any(row["shown"] for row in rows):
            title += "; grey: untrained models of its shape"
        yield "models-ees", alt.layer(*layers).properties(width=560, height=22 * len(rows), title=title)


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


def _progress(points: list[dict[str, Any]], axis: alt.X, title: str) -> Any:
    layers = study_charts.progress(alt.InlineData(values=points), x=axis, levels=_levels(points))
    return alt.layer(*layers).properties(width=520, height=300, title=title)


def _dot(payload: Payload, cell: dict[str, Any]) -> dict[str, Any]:
    ees, shown = _named(cell["plain"]["ees"]), cell["null"] is not None
    null = cell["null"][0] if shown else ees["value"]
    return {"name": cell["name"], "group": _group(payload, cell), **ees, "null": null, "shown": shown, "n": cell["n"]}


def _named(interval: list[float | None]) -> dict[str, Any]:
    value, low, high = interval
    return {"value": value, "low": value if low is None else low, "high": value if high is None else high}


def _group(payload: Payload, cell: dict[str, Any]) -> str:
    return next(iter(payload.groups.values()))[cell["model"]] or "not known"


def _levels(rows: list[dict[str, Any]]) -> list[str]:
    return sorted({row["group"] for row in rows})


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
        chart.configure(style={"reference": {"color": "#59636e"}})
        .configure_view(stroke=None)
        .configure_range(heatmap=_RAMP, category=_CATEGORY)
        .configure_title(fontSize=14, anchor="start")
        .configure_axis(labelOverlap="greedy", gridColor="#e8eae6")
    )
