"""The score card for a terminal, with Rich: verdict, figures and the decided curve on one screen.

Text is only ever put into `Text` objects, which read no markup, after escape sequences and control
characters are taken out.
"""

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from exitbench.report.cautions import cautions
from exitbench.report.figures import (
    Kind,
    Line,
    headline,
    interval_text,
    level_text,
    second_screen,
    subject,
    value_text,
)
from exitbench.report.pays import pays
from exitbench.report.text import plain
from exitbench.score.scorecard import ScoreCard
from exitbench.stats.figure import Curve

__all__ = ["terminal_card"]

_SECOND_SCREEN = ("EES_blocks", "EES_null", "First-match EES", "EES_tv(0.1)", "EES_tv(0.3)", "EES_correct")
_BARS = "".join(chr(0x2581 + height) for height in range(8))
_ASCII_BARS = "_.,-=+*#"


def terminal_card(card: ScoreCard) -> RenderableType:
    """The card as something Rich prints."""
    lines = headline(card)
    more = [line for line in second_screen(card) if line.name in _SECOND_SCREEN]
    missing = [line for line in (*lines, *more) if line.figure is None]
    return Group(
        Panel(Group(Text(plain(card.verdict), style="bold"), Text(plain(subject(card)), style="dim"))),
        _table(
            level_text(card),
            [line for line in lines if line.kind is Kind.BLOCKS and line.figure is not None],
            [line for line in more if line.figure is not None],
        ),
        *(Text(_beside(line)) for line in lines if line.figure is not None and line.asides),
        *(Text(_of_another_kind(line)) for line in lines if line.figure is not None and line.kind is not Kind.BLOCKS),
        *(Text(plain(text), style="dim") for text in _missing(missing)),
        _Sparkline(card.decided),
        *_pays(card),
        *(Text(f"Note: {plain(caution)}", style="yellow") for caution in cautions(card)),
    )


def _table(level: str, lines: list[Line], more: list[Line]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(Text("share of the blocks' work"))
    table.add_column(Text("value"), justify="right")
    table.add_column(Text(f"{level} interval"))
    table.add_column(Text("tokens"), justify="right")
    table.add_column(Text("prompts"), justify="right")
    for line in lines:
        _add_row(table, line, style="bold")
    table.add_section()
    for line in more:
        _add_row(table, line, style="")
    return table


def _add_row(table: Table, line: Line, *, style: str) -> None:
    assert line.figure is not None
    counts = (f"{line.figure.n_tokens:,}", f"{line.figure.n_prompts:,}")
    cells = (value_text(line.figure), interval_text(line.figure), *counts)
    table.add_row(Text(line.name, style=style), *(Text(cell) for cell in cells))


def _beside(line: Line) -> str:
    parts = (f"{aside.name} {value_text(aside.figure)}" for aside in line.asides)
    return f"{line.name}: {', '.join(parts)}"


def _missing(lines: list[Line]) -> list[str]:
    """One line for each reason."""
    names: dict[str, list[str]] = {}
    for line in lines:
        names.setdefault(line.reason, []).append(line.name)
    return [f"{'; '.join(of_reason)}: {value_text(None)} ({reason})" for reason, of_reason in names.items()]


def _of_another_kind(line: Line) -> str:
    assert line.figure is not None
    return f"{line.name}: {value_text(line.figure)} {interval_text(line.figure)}"


def _pays(card: ScoreCard) -> list[Text]:
    sentences = pays(card)
    if not sentences:
        return []
    return [Text("Does it pay here?", style="bold"), Text(plain(" ".join(sentences)))]


class _Sparkline:
    """The decided curve in one line, in ASCII where the terminal's encoding has no block characters."""

    def __init__(self, curve: Curve) -> None:
        self._curve = curve

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        bars = _ASCII_BARS if options.ascii_only else _BARS
        line = "".join(" " if share is None else bars[min(7, int(share * 8))] for share in self._curve.value)
        yield Text(f"decided by depth 0 to {len(line) - 1}: {line}", overflow="fold")
