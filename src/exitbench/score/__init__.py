"""Scoring: from a trace to its suitability figures, with intervals."""

from exitbench.score.assemble import score
from exitbench.score.scorecard import ScoreCard
from exitbench.stats.figure import Curve, Figure

__all__ = ["Curve", "Figure", "ScoreCard", "score"]
