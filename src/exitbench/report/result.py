"""What a report is made of: a card, and the trace behind it where the token explorer is wanted."""

from dataclasses import dataclass

from exitbench.score.scorecard import ScoreCard
from exitbench.trace.table import Trace

__all__ = ["Result"]


@dataclass(frozen=True)
class Result:
    """One section of a report."""

    card: ScoreCard
    trace: Trace | None
    """None: no token explorer, and failed samples are counted but not named."""
