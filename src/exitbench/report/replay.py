"""A replay for a terminal, as tables, and for spreadsheets, as flat rows of CSV."""

import csv
import io
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from exitbench.replay.points import OperatingPoint
from exitbench.replay.result import Replay
from exitbench.report.policies import MARKS, PolicyTable, drafting, policy_tables, replayed
from exitbench.report.text import plain
from exitbench.stats.figure import Figure

__all__ = ["TABLE_WIDTH", "replay_csv", "replay_tables"]

TABLE_WIDTH = 168
"""Characters that the widest table takes, with a column of times: no figure is cut."""

_FIGURES = (
    *("saved_blocks", "disagreement", "answers_changed", "detectability", "exit_depth_mean"),
    *("net_flops_copy", "net_bytes_deferred", "net_time_deferred", "over_plain"),
)


def replay_tables(replay: Replay) -> RenderableType:
    """One table for each target, the policies that save most first, and the projection of drafting."""
    bounds = f"EES {replay.stable.text()}, first match {replay.first_match.text()}"
    parts: list[RenderableType] = [Text(plain(replayed(replay)), style="bold"), Text(bounds)]
    for table in policy_tables(replay):
        parts += [Text(f"\n{table.target}", style="italic"), *([_table(table)] if table.rows else [])]
        parts += [Text(plain(missing), style="dim") for missing in table.missing]
    parts += [Text(f"\n{plain(drafting(replay))}"), Text(MARKS, style="dim")]
    return Group(*parts)


def _table(table: PolicyTable) -> Table:
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, heading in enumerate(table.headings):
        numeric = index >= 2 and heading != "+/-"
        shown.add_column(Text(heading), justify="right" if numeric else "left", no_wrap=True)
    for row in table.rows:
        shown.add_row(*(Text(plain(cell)) for cell in row.cells))
    return shown


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
