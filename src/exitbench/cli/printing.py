"""What commands print, and to which stream: results to standard output, everything else to standard error."""

import json
import shlex
import sys
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from exitbench.plain import plain
from exitbench.progress import Progressor

if TYPE_CHECKING:
    from exitbench.trace.table import Trace

__all__ = [
    "STDERR",
    "STDOUT",
    "command_line",
    "complain",
    "fail_if_samples_failed",
    "print_json",
    "print_wide",
    "progress_on_stderr",
    "table_of",
]

STDOUT = Console()
STDERR = Console(stderr=True)


def progress_on_stderr(quiet: bool) -> Progressor:
    """Bars and messages, or nothing."""
    return Progressor(None if quiet else STDERR)


def command_line() -> str:
    """What was typed, as artefacts record it."""
    return shlex.join(["exitbench", *sys.argv[1:]])


def print_json(value: Any) -> None:
    """One JSON document."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def complain(message: str) -> None:
    """One line on what went wrong."""
    STDERR.print(Text("error: ", style="bold red") + Text(plain(message)), soft_wrap=True)


def print_wide(what: RenderableType, *, least: int = 120) -> None:
    """Tables whose names and figures are to be read whole, and found by grep, in a narrow terminal or a pipe too."""
    Console(width=max(STDOUT.width, least)).print(what)


def fail_if_samples_failed(*traces: "Trace | None") -> None:
    """Exit with 1, and name the first one, if any sample of the traces failed."""
    failures = [failure for trace in traces if trace for failure in trace.failures]
    if failures:
        n_samples = sum(len(trace.samples) for trace in traces if trace)
        text = f"{len(failures)} of {n_samples} samples failed; first: {failures[0].sample_id}: {failures[0].reason}"
        STDERR.print(Text(plain(text), style="red"), soft_wrap=True)
        raise typer.Exit(1)


def table_of(rows: list[dict[str, Any]]) -> Table:
    """Rows of the same keys, which become the headings."""
    table = Table(*rows[0].keys())
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    return table


def _cell(value: Any) -> str:
    if isinstance(value, tuple):
        return "; ".join(map(str, value))
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
