"""Statistics: figures of a trace with intervals, what a calibration may promise, and comparisons of few models."""

from exitbench.stats.figure import Curve, Figure

__all__ = ["Curve", "Figure"]
