"""A replay as tables: one for each target, a policy a row, every kind of saving in a column of its own.

The terminal, the page and the Markdown card are layouts of the same rows. What a policy lacks at a target (too few
prompts, for a certificate) is said below the table and not in its cells, where it would blow up a column.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from exitbench.replay.hold import ANY
from exitbench.replay.points import OperatingPoint
from exitbench.replay.result import Replay
from exitbench.stats.figure import Figure

__all__ = ["MARKS", "PolicyRow", "PolicyTable", "drafting", "held_to", "policy_tables", "replayed"]

MARKS = "+ or -: skips more or less of the blocks' work than top1-prob at every depth (Holm-adjusted p < 0.05)"
_SIGNIFICANT = 0.05
_BOUNDED = {"token": "tokens changed", "answer": "answers changed", "task": "loss of the task metric"}


@dataclass(frozen=True, kw_only=True)
class PolicyRow:
    """One policy, as text."""

    cells: tuple[str, ...]
    """Under the headings, figures with their intervals."""
    short: tuple[str, ...]
    """The same without intervals."""


@dataclass(frozen=True, kw_only=True)
class PolicyTable:
    """The policies by which tokens leave at one target, those that skip most first."""

    target: str
    """What they are held to, in words."""
    is_tuned: bool
    """Whether by the plain bootstrap rule; else by a certificate."""
    headings: tuple[str, ...]
    rows: tuple[PolicyRow, ...]
    missing: tuple[str, ...]
    """Which policies and figures are not in it, and why, in sentences."""


def policy_tables(replay: Replay) -> tuple[PolicyTable, ...]:
    """The tables of a replay: tuned targets first, then certificates."""
    targets = list(dict.fromkeys(held_to(point) for point in replay.points))
    tables = [_table(replay, target) for target in targets]
    return tuple(sorted(tables, key=lambda table: not table.is_tuned))


def held_to(point: OperatingPoint) -> str:
    """The target of a point, in words."""
    surely = f", delta {point.delta:g}" if point.delta is not None else ""
    return f"at most {100 * point.eps:g} % of {_BOUNDED[point.risk]} ({point.procedure}{surely})"


def replayed(replay: Replay) -> str:
    """What was replayed, on how much, and what the net columns assume."""
    times = f", times of {replay.profile}" if replay.profile else ""
    return (
        f"{replay.model.name} on {replay.workload.name}: {replay.n_tokens:,} tokens, {replay.n_prompts:,} prompts of "
        f"{', '.join(replay.categories)}; batch {replay.batch}, context {replay.context}{times}"
    )


def drafting(replay: Replay) -> str:
    """The lossless projection in one line."""
    if replay.speculation is None:
        return f"lossless drafting: not projected ({replay.reasons['speculation']})"
    drafts = [f"depth {draft[0]}, {draft[1]} tokens" if draft else "none" for draft in replay.speculation_drafts or []]
    chosen = "; ".join(dict.fromkeys(drafts))
    speedup = replay.speculation.text()
    unit = f"time on {replay.profile}" if replay.profile else "bytes"
    return f"lossless drafting, projected in {unit}: {speedup} times the speed of plain decoding; drafts: {chosen}"


def _table(replay: Replay, target: str) -> PolicyTable:
    points = [point for point in replay.points if held_to(point) == target]
    leaving = [point for point in points if point.saved_blocks is not None and not _is_idle(point) and _looks(point)]
    timed = ("time, net",) if replay.profile else ()
    numbers = ("blocks skipped", "+/-", "changed", "detected", "FLOPs, net", "bytes, net", *timed)
    return PolicyTable(
        target=target,
        is_tuned=points[0].procedure == "bootstrap",
        headings=("policy", "probes", *numbers),
        rows=tuple(_row(point, timed=bool(timed)) for point in sorted(leaving, key=lambda point: -_saved(point))),
        missing=tuple(_missing(points, timed=bool(timed))),
    )


def _is_idle(point: OperatingPoint) -> bool:
    """Whether no threshold qualifies in any fold, so that no token is probed and every saving is exactly 0."""
    return point.thresholds is not None and all(threshold is None for threshold in point.thresholds)


def _looks(point: OperatingPoint) -> bool:
    """Whether probe depths that were to be learned came to any, in any fold."""
    return not point.probes.startswith("learned-") or any(point.probe_depths or ())


def _row(point: OperatingPoint, *, timed: bool) -> PolicyRow:
    first = (point.policy, point.probes)
    net = [point.net_flops_copy, point.net_bytes_deferred, *([point.net_time_deferred] if timed else [])]
    assert point.saved_blocks is not None
    between = (_mark(point), _short(point.disagreement, 4), _short(point.detectability, 3))
    return PolicyRow(
        cells=(*first, point.saved_blocks.text(), *between, *("n/a" if f is None else f.text() for f in net)),
        short=(*first, _short(point.saved_blocks, 3), *between, *(_short(figure, 3) for figure in net)),
    )


def _mark(point: OperatingPoint) -> str:
    if point.over_plain is None or point.over_plain_p is None or point.over_plain_p >= _SIGNIFICANT:
        return ""
    difference = point.over_plain.value or 0.0
    return "+" if difference > 0 else "-" if difference < 0 else ""


def _missing(points: list[OperatingPoint], *, timed: bool) -> Iterator[str]:
    """Policies without figures by the reason why, those by which no token leaves, then columns without figures."""
    without: dict[str, list[OperatingPoint]] = {}
    for point in points:
        if point.saved_blocks is None:
            without.setdefault(point.reasons["saved_blocks"], []).append(point)
    for reason, of_reason in without.items():
        named = "any policy" if len(of_reason) == len(points) else _names(of_reason)
        yield f"No figures for {named}: {reason}."
    if unchosen := [point for point in points if _is_idle(point) and point.probes == ANY]:
        yield f"No policy gains on its calibration prompts for {_names(unchosen)}: none is used, and every saving is 0."
    if idle := [point for point in points if _is_idle(point) and point.probes != ANY]:
        yield f"No threshold qualifies for {_names(idle)}: no token is probed, and every saving is 0."
    if blind := [p for p in points if p.saved_blocks is not None and not _is_idle(p) and not _looks(p)]:
        yield f"No probe pays for {_names(blind)}: none is made, and every saving is 0."
    there = next((point for point in points if point.saved_blocks is not None), None)
    if there is not None:
        time = (("net_time_deferred", "time, net"),) if timed else ()
        for name, column in (("net_flops_copy", "FLOPs, net"), ("net_bytes_deferred", "bytes, net"), *time):
            if name in there.reasons:
                yield f"{column}: {there.reasons[name]}."


def _names(points: list[OperatingPoint]) -> str:
    return ", ".join(f"{point.policy} ({point.probes})" for point in points)


def _saved(point: OperatingPoint) -> float:
    value = None if point.saved_blocks is None else point.saved_blocks.value
    return float("-inf") if value is None else value


def _short(figure: Figure | None, digits: int) -> str:
    return "n/a" if figure is None or figure.value is None else f"{figure.value:.{digits}f}"
