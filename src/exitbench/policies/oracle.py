"""Exits that look into the future: bounds for any policy, in replay only.

An oracle is another type than a policy, so nothing that runs a model accepts one.

Shapes: N tokens, L blocks.
"""

from typing import ClassVar

from exitbench.trace.decided import first_match_depths
from exitbench.trace.decision import Depths
from exitbench.trace.table import Trace

__all__ = ["FirstMatch", "Oracle", "Stable"]


class Oracle:
    """Knows what the full model will say."""

    name: ClassVar[str]

    def exits(self, trace: Trace) -> Depths:
        """(N,) depth at which each token leaves."""
        raise NotImplementedError


class FirstMatch(Oracle):
    """Leave at the first depth that says what the full model will say, even if a deeper one changes its mind."""

    name: ClassVar[str] = "oracle-first-match"

    def exits(self, trace: Trace) -> Depths:
        """First depth of agreement."""
        return first_match_depths(trace.top1_id)


class Stable(Oracle):
    """Leave at the depth from which on the prediction no longer changes: what EES measures."""

    name: ClassVar[str] = "oracle-stable"

    def exits(self, trace: Trace) -> Depths:
        """The decision depth."""
        return trace.decision_depth
