"""A replay for people and for spreadsheets: tables for a terminal, flat rows for CSV."""

import csv
import io
from collections.abc import Iterator
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from exitbench.replay.points import OperatingPoint
from exitbench.replay.result import Replay
from exitbench.report.figures import percent
from exitbench.report.text import plain
from exitbench.stats.figure import Figure

__all__ = ["held_to", "point_cells", "replay_csv", "replay_headings", "replay_tables"]

_FIGURES = (
    *("saved_blocks", "disagreement", "answers_changed", "detectability", "exit_depth_mean"),
    *("net_flops_copy", "net_bytes_deferred", "net_time_deferred", "over_plain"),
)
_SIGNIFICANT = 0.05


def replay_tables(replay: Replay) -> RenderableType:
    """One table for each target, the policies that save most first, and the projection of drafting."""
    parts: list[RenderableType] = [Text(plain(_subject(replay)), style="bold")]
    for target, points in _by_target(replay):
        table = Table(box=SIMPLE_HEAD, pad_edge=False, title=Text(target), title_justify="left")
        for index, heading in enumerate(replay_headings(replay)):
            table.add_column(Text(heading), justify="left" if index < 2 else "right")
        for point in points:
            table.add_row(*(Text(plain(cell)) for cell in point_cells(point, timed=bool(replay.profile))))
        parts.append(table)
    parts.append(Text(_drafts(replay)))
    parts.append(Text("+ or -: better or worse than top1-prob at every depth (Holm-adjusted p < 0.05)", style="dim"))
    return Group(*parts)


def _subject(replay: Replay) -> str:
    return (
        f"{replay.model.name} on {replay.workload.name}: {replay.n_tokens:,} tokens, {replay.n_prompts:,} prompts; "
        f"EES {replay.stable.text()}, first match {replay.first_match.text()}; "
        f"batch {replay.batch}, context {replay.context}"
    )


def _by_target(replay: Replay) -> Iterator[tuple[str, list[OperatingPoint]]]:
    for target in dict.fromkeys(held_to(point) for point in replay.points):
        points = [point for point in replay.points if held_to(point) == target]
        yield target, sorted(points, key=lambda point: -_value(point.saved_blocks))


def held_to(point: OperatingPoint) -> str:
    """The target of a point, in words."""
    bound = {"token": "tokens changed", "answer": "answers changed", "task": "loss of the task metric"}[point.risk]
    surely = f", delta {point.delta:g}" if point.delta is not None else ""
    return f"at most {percent(point.eps, 0)} of {bound} ({point.procedure}{surely})"


def replay_headings(replay: Replay) -> list[str]:
    """Columns of `point_cells`."""
    timed = ["net time"] if replay.profile else []
    return ["policy", "probes", "blocks saved", "met", "detected", "net FLOPs", "net bytes", *timed]


def point_cells(point: OperatingPoint, *, timed: bool) -> list[str]:
    """One row for people."""
    if point.saved_blocks is None:
        return [point.policy, point.probes, point.reasons["saved_blocks"], *[""] * (4 + timed)]
    sign = ""
    if point.over_plain_p is not None and point.over_plain is not None and point.over_plain_p < _SIGNIFICANT:
        sign = " +" if _value(point.over_plain) > 0 else " -"
    net = [point.net_flops_copy, point.net_bytes_deferred, *([point.net_time_deferred] if timed else [])]
    return [
        point.policy,
        point.probes,
        point.saved_blocks.text() + sign,
        "n/a" if point.disagreement is None else f"{_value(point.disagreement):.4f}",
        "n/a" if point.detectability is None else f"{_value(point.detectability):.3f}",
        *("n/a" if figure is None else figure.text() for figure in net),
    ]


def _value(figure: Figure | None) -> float:
    return float("-inf") if figure is None or figure.value is None else figure.value


def _drafts(replay: Replay) -> str:
    if replay.speculation is None:
        return f"lossless drafting: not projected ({replay.reasons['speculation']})"
    drafts = [f"depth {d[0]}, {d[1]} tokens" if d else "none" for d in replay.speculation_drafts or []]
    chosen = "; ".join(dict.fromkeys(drafts))
    speedup = replay.speculation.text()
    return f"lossless drafting, projected in bytes: {speedup} times the speed of plain decoding; drafts: {chosen}"


def replay_csv(replay: Replay) -> str:
    """One line for each policy and target, every figure with its interval and counts; empty where there is none."""
    rows = [_flat(replay, point) for point in replay.points]
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _flat(replay: Replay, point: OperatingPoint) -> dict[str, Any]:
    row: dict[str, Any] = {
        "model": replay.model.name,
        "workload": replay.workload.name,
        "categories": " ".join(replay.categories),
        "policy": point.policy,
        "probes": point.probes,
        "eps": point.eps,
        "procedure": point.procedure,
        "risk": point.risk,
        "n_tokens": replay.n_tokens,
        "n_prompts": replay.n_prompts,
    }
    for name in _FIGURES:
        figure: Figure | None = getattr(point, name)
        for part in ("value", "low", "high"):
            number = None if figure is None else getattr(figure, part)
            row[name if part == "value" else f"{name}_{part}"] = "" if number is None else f"{number:.6g}"
    row["over_plain_p"] = "" if point.over_plain_p is None else f"{point.over_plain_p:.4g}"
    return row
