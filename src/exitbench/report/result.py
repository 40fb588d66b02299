"""What a report is made of: a card, and beside it the trace, for the token explorer, and the replay, for policies."""

from dataclasses import dataclass

from exitbench.replay.result import Replay
from exitbench.score.scorecard import ScoreCard
from exitbench.trace.table import Trace

__all__ = ["Result"]


@dataclass(frozen=True)
class Result:
    """One section of a report."""

    card: ScoreCard
    trace: Trace | None
    """None: no token explorer, and failed samples are counted but not named."""
    replay: Replay | None = None
    """None: no chapter on exit policies."""
