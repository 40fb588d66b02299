"""Statistics over the prompts of a trace: figures with intervals, and what a calibration may promise."""

from exitbench.stats.figure import Curve, Figure

__all__ = ["Curve", "Figure"]
