"""Policies that trust what a depth says of its own prediction."""

from typing import ClassVar

import numpy as np

from exitbench.policies.grids import DISTANCES, PROBABILITIES
from exitbench.policies.policy import ExitPolicy, Floats, Seen, State

__all__ = ["DecayingThreshold", "Entropy", "Margin", "TopProbability"]


class TopProbability(ExitPolicy):
    """Leave when the most probable token is probable enough: the plain threshold that others are compared with.

    Source: softmax thresholds go back to BranchyNet and its successors; MSDNet (arXiv 1703.09844) uses just this one.
    """

    name: ClassVar[str] = "top1-prob"
    signals: ClassVar[tuple[str, ...]] = ("top1_prob",)

    def scores(self, seen: Seen) -> Floats:
        """Probability of the most probable token."""
        return np.asarray(seen.signals["top1_prob"], dtype=np.float64)

    @classmethod
    def grid(cls, num_blocks: int) -> Floats:
        """Probabilities."""
        return PROBABILITIES


class Margin(ExitPolicy):
    """Leave when the top token is far enough ahead of the second (CALM, arXiv 2207.07061, softmax response)."""

    name: ClassVar[str] = "margin"
    signals: ClassVar[tuple[str, ...]] = ("margin",)

    def scores(self, seen: Seen) -> Floats:
        """Difference of the two largest probabilities."""
        return np.asarray(seen.signals["margin"], dtype=np.float64)

    @classmethod
    def grid(cls, num_blocks: int) -> Floats:
        """Probabilities."""
        return PROBABILITIES


class Entropy(ExitPolicy):
    """Leave when the distribution is narrow enough (BranchyNet, arXiv 1709.01686)."""

    name: ClassVar[str] = "entropy"
    signals: ClassVar[tuple[str, ...]] = ("entropy",)

    def scores(self, seen: Seen) -> Floats:
        """Minus the entropy, in nats."""
        return -np.asarray(seen.signals["entropy"], dtype=np.float64)

    @classmethod
    def grid(cls, num_blocks: int) -> Floats:
        """Minus entropies, in nats."""
        return DISTANCES


class DecayingThreshold(ExitPolicy):
    """Leave at a margin that is asked for more strictly at the beginning of an answer (CALM, arXiv 2207.07061, eq. 5).

    At position t of at most T tokens the margin must reach clip(0.9 lambda + 0.1 exp(-temperature t / T), 0, 1): an
    early mistake spoils all that follows. The threshold of this policy is 0.9 lambda, which may go up to 1; with
    CALM's own lambda of at most 1 no margin above 0.9 could be asked for at the end of an answer.
    """

    name: ClassVar[str] = "calm-decay"
    signals: ClassVar[tuple[str, ...]] = ("margin",)
    state: ClassVar[tuple[State, ...]] = ("answer position",)

    temperature: float = 4.0
    """How fast the strictness decays; CALM's choice."""

    def scores(self, seen: Seen) -> Floats:
        """The margin minus what the position asks for on top; a margin of 1 always suffices."""
        margin = np.asarray(seen.signals["margin"], dtype=np.float64)
        on_top = 0.1 * np.exp(-self.temperature * seen.answer_position / seen.answer_limit)
        return np.where(margin >= 1, np.inf, margin - on_top[:, None])

    @classmethod
    def grid(cls, num_blocks: int) -> Floats:
        """0.9 lambda, from 0 to 1."""
        return PROBABILITIES
