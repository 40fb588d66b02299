"""Progress bars with rate and remaining time; silent when asked, and by default in the Python API."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from exitbench.plain import plain

__all__ = ["SILENT", "Progressor"]


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.3g}/s", style="progress.data.speed")


class Progressor:
    """Shows messages and progress bars.

    Args:
        console: where to show them; None shows nothing.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console

    def say(self, message: str) -> None:
        """Show one line."""
        if self._console is not None:
            self._console.print(Text(plain(message), style="dim"))

    @contextmanager
    def bar(self, description: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Show a bar for the time of the context; call what it yields with the number of steps done.

        Args:
            description: what is being done.
            total: number of steps; None where it cannot be known, for a bar that only moves and shows the time.
        """
        if self._console is None:
            yield lambda steps: None
            return
        counted = () if total is None else (MofNCompleteColumn(), _RateColumn(), TimeRemainingColumn())
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), *counted, TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=total is None) as progress:
            task = progress.add_task(plain(description), total=total)
            yield lambda steps: progress.advance(task, steps)


SILENT = Progressor()
