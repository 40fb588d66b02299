"""MaxSkip in a terminal: every depth that was tried, then the largest harmless cut."""

from collections.abc import Iterator

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from exitbench.plain import plain
from exitbench.score.maxskip import Cut, DepthScore, MaxSkip, MaxSkipCard, TaskSkip

__all__ = ["maxskip_tables"]

_UNITS = ("points", "point")


def maxskip_tables(card: MaxSkipCard) -> Group:
    """One table and the figures below it for each task."""
    return Group(*(part for task in card.tasks for part in _task(card, task)))


def _task(card: MaxSkipCard, task: TaskSkip) -> Iterator[Table | Text]:
    table = Table(
        box=box.SIMPLE_HEAD,
        title=Text(plain(f"{card.model} on {task.task}: {task.metric}, {task.n_documents} documents")),
        caption=f"All answer tokens leave at one depth, state {card.state}. Blocks skipped: share of the blocks' work, "
        "gross. Drop: points lost to the full model, in pairs, 95 % interval over documents; at most: its upper bound.",
    )
    table.add_column("depth", justify="right")
    for heading in ("blocks skipped", "score", "drop", "at most"):
        table.add_column(heading, justify="right")
    table.add_row(f"{card.num_blocks}", "0.000", task.full.text(), "0", "0")
    for at in task.depths:
        table.add_row(f"{at.depth}", f"{at.saved:.3f}", at.score.text(), at.drop.text(digits=2), _bound(at))
    yield table
    for figure in task.max_skip:
        yield Text(f"MaxSkip({figure.points:g} {_UNITS[figure.points == 1]}): {_said(figure)}", style="bold")


def _said(figure: MaxSkip) -> str:
    estimated, bounded = (
        _cut(cut) or f"n/a ({figure.reasons[name]})"
        for name, cut in (("estimated", figure.estimated), ("bounded", figure.bounded))
    )
    return f"{estimated} as met; {bounded} by the upper bound"


def _bound(at: DepthScore) -> str:
    return "n/a" if at.bound is None else f"{at.bound:.2f}"


def _cut(cut: Cut | None) -> str:
    return "" if cut is None else f"{cut.saved:.3f} at depth {cut.depth}"
