"""Scoring: from a trace to its suitability figures, with intervals."""

from exitbench.score.assemble import score
from exitbench.score.figure import Curve, Figure
from exitbench.score.scorecard import ScoreCard

__all__ = ["Curve", "Figure", "ScoreCard", "score"]
