"""Where the time of a run of a study goes: inside its cells, and beside them.

A cell's time is loading, tracing, scoring and letting go of the model, wherever it is measured. What is beside is the
time of this process that it neither spends in a cell nor waits for one: planning, writing rows, removing scratch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

__all__ = ["Ledger"]


@dataclass
class Ledger:
    """Where the time of a run goes."""

    began: float = field(default_factory=perf_counter)
    cells_s: float = 0.0
    """Of cells; more than the time that passes where several are measured at once."""
    away_s: float = 0.0
    """Of this process, in cells or waiting for them."""

    @contextmanager
    def cell(self) -> Iterator[None]:
        """Book the time of the context as that of a cell."""
        before = self.away_s
        try:
            with self.waiting():
                yield
        finally:
            self.cells_s += self.away_s - before

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Book the time of the context as waiting for cells that book theirs elsewhere."""
        began = perf_counter()
        try:
            yield
        finally:
            self.away_s += perf_counter() - began

    @property
    def overhead_s(self) -> float:
        """Seconds since the beginning that no cell had."""
        return perf_counter() - self.began - self.away_s
