"""The page's chapter on exit policies: tables, the frontiers of all, and what batches leave of the best one."""

from dataclasses import dataclass
from typing import Any

import altair as alt

from exitbench.replay.points import OperatingPoint
from exitbench.replay.result import PolicyFrontier, Replay
from exitbench.report.chart_parts import SHARE, Chart, finished, number_tip
from exitbench.report.charts import batch_chart
from exitbench.report.figures import percent
from exitbench.report.frontier import MAX_DISAGREEMENT, disagreement_axis, frontier_rows
from exitbench.report.policies import MARKS, PolicyTable, drafting, policy_tables, replayed
from exitbench.stats.bootstrap import LEVEL
from exitbench.stats.figure import Figure

__all__ = ["MAX_LINES", "PolicyChapter", "frontiers_chart", "policy_chapter"]

MAX_LINES = 8
"""More lines than this cannot be told apart; those that reach highest are kept and the note says so."""
_PLAIN = "top1-prob"


@dataclass(frozen=True, kw_only=True)
class PolicyChapter:
    """The chapter as the template reads it."""

    subject: str
    finding: str
    """What came of it, in a sentence."""
    tables: tuple[PolicyTable, ...]
    marks: str
    drafting: str
    charts: tuple[Chart, ...]


def policy_chapter(replay: Replay) -> PolicyChapter:
    """Everything a page says of a replay."""
    charts = [frontiers_chart(replay)] if replay.frontiers else []
    best = _best(replay, "blocks")
    if best is not None and best.batch is not None:
        title = f"Rows in lockstep: what is left of the best policy at {100 * best.eps:g} % of tokens changed"
        charts.append(batch_chart(best.batch, title=title, level=f"{100 * LEVEL:g} %"))
    return PolicyChapter(
        subject=replayed(replay),
        finding=_finding(replay, best),
        tables=policy_tables(replay),
        marks=MARKS,
        drafting=drafting(replay),
        charts=tuple(charts),
    )


def _best(replay: Replay, column: str) -> OperatingPoint | None:
    """The policy chosen for each fold on its calibration prompts, at the laxest tuned target."""
    name = f"best by {column}"
    tuned = [p for p in replay.points if p.policy == name and p.procedure == "bootstrap" and p.saved_blocks is not None]
    return max(tuned, key=lambda point: point.eps, default=None)


def _finding(replay: Replay, best: OperatingPoint | None) -> str:
    skipped = None if best is None else _value(best.saved_blocks)
    if best is None or skipped is None:
        return "What the best of the policies attains is not known at any tuned target."
    said = f"The best policy, chosen for each prompt without it, skips {percent(skipped)} of the blocks' work"
    if (more := _value(best.over_plain)) is not None:
        said += f", {percent(abs(more))} {'more' if more >= 0 else 'less'} than the plain threshold"
    if (changed := _value(best.disagreement)) is not None:
        said += f"; {100 * best.eps:g} % of the tokens were allowed to change and {percent(changed)} did"
    for column, unit in (("flops_copy", "FLOPs"), ("bytes_deferred", "bytes")):
        thrifty = _best(replay, column)
        if thrifty is not None and (net := _value(getattr(thrifty, f"net_{column}"))) is not None:
            said += f". Net of its costs, the best one for {unit} saves {percent(net)} of them"
    return f"{said}."


def _value(figure: Figure | None) -> float | None:
    return None if figure is None else figure.value


def frontiers_chart(replay: Replay) -> Chart:
    """Savings against disagreement, one line a policy, over the symlog axis of the card's frontier."""
    near = [line for line in replay.frontiers if _near(line)]
    ranked = sorted(near, key=lambda line: (line.policy != _PLAIN, -_reach(line)))
    drawn = ranked[:MAX_LINES]
    names = [line.policy if line.probes in ("every", "none") else f"{line.policy} ({line.probes})" for line in drawn]
    rows = [row | {"policy": name} for name, line in zip(names, drawn, strict=True) for row in _near(line)]
    top = 1.1 * max([row["savings"] for row in rows] + [replay.stable.value or 0.0]) or 1.0
    legend = alt.Legend(orient="bottom", columns=2)  # the same for both channels, or it would be drawn twice
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("disagreement:Q", **disagreement_axis(MAX_DISAGREEMENT)),
        y=alt.Y(
            "savings:Q",
            title="share of blocks' work skipped",
            axis=alt.Axis(format=SHARE),
            scale=alt.Scale(domain=[0, min(top, 1.0)], nice=False),
        ),
        color=alt.Color("policy:N", scale=alt.Scale(domain=names), title="policy", legend=legend),
        strokeDash=alt.StrokeDash("policy:N", scale=alt.Scale(domain=names), title="policy", legend=legend),
    )
    tips = [
        alt.Tooltip("policy:N", title="policy"),
        number_tip("at", "threshold", ".6~f"),
        number_tip("disagreement", "tokens changed", ".2%"),
        number_tip("savings", "work skipped", ".1%"),
    ]
    layers = [
        base.mark_line().encode(order="at:Q"),
        base.mark_point(size=60, opacity=0).encode(tooltip=tips),
    ]
    note = (
        "Each point is one threshold, chosen and measured on the same tokens: a picture of the trade, no result; quote "
        f"the tables. Beyond {MAX_DISAGREEMENT:.0%} of tokens changed nothing is drawn. Policies that have to be "
        "fitted have no such line."
    )
    if left := len(ranked) - len(drawn):
        note += f" The {left} lowest lines are left out."
    return finished(layers, title=_title(names, drawn), note=note, height=340)


def _title(names: list[str], drawn: list[PolicyFrontier]) -> str:
    if not drawn:
        return f"No policy without training keeps within {MAX_DISAGREEMENT:.0%} of tokens changed at any threshold"
    best = max(range(len(drawn)), key=lambda index: _reach(drawn[index]))
    return f"Among policies without training, {names[best]} skips most within 5 % of tokens changed, in sample"


def _near(line: PolicyFrontier) -> list[dict[str, Any]]:
    """The part of a line that is drawn."""
    return [row for row in frontier_rows(line.frontier) if row["disagreement"] <= MAX_DISAGREEMENT]


def _reach(line: PolicyFrontier) -> float:
    """Most that is saved at 5 % disagreement or less, in sample."""
    within = [row["savings"] for row in frontier_rows(line.frontier) if row["disagreement"] <= 0.05]
    return max(within, default=0.0)
