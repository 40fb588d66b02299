"""Tuned lenses: an affine map a depth, learnt, in front of the model's own readout."""

from exitbench.lens.plan import Plan, make_plan
from exitbench.lens.training import train
from exitbench.lens.translators import Origin, Translators, read_translators, translators_for

__all__ = ["Origin", "Plan", "Translators", "make_plan", "read_translators", "train", "translators_for"]
