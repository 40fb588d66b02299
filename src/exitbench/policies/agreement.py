"""Policies that wait until depths agree with one another."""

from typing import ClassVar

import numpy as np

from exitbench.policies.grids import DISTANCES
from exitbench.policies.policy import ExitPolicy, Floats, Seen, State

__all__ = ["HiddenSaturation", "KlToPrevious", "Patience"]


class HiddenSaturation(ExitPolicy):
    """Leave when a block hardly turns the hidden state (CALM, arXiv 2207.07061, hidden-state saturation).

    It needs no readout, so its probes cost next to nothing.
    """

    name: ClassVar[str] = "hidden-cosine"
    signals: ClassVar[tuple[str, ...]] = ("hidden_cosine_prev",)
    reads_out: ClassVar[bool] = False
    state: ClassVar[tuple[State, ...]] = ("previous hidden state",)

    def scores(self, seen: Seen) -> Floats:
        """Cosine to the hidden state one block earlier, minus 1."""
        return np.asarray(seen.signals["hidden_cosine_prev"], dtype=np.float64) - 1

    @classmethod
    def grid(cls, num_blocks: int) -> Floats:
        """Minus distances from a cosine of 1."""
        return DISTANCES


class KlToPrevious(ExitPolicy):
    """Leave when a block hardly changes the distribution: KL(this depth || one block earlier) is small.

    Source: CALM's saturation (arXiv 2207.07061), asked of the distribution in place of the hidden state; DoLa (arXiv
    2309.03883) compares depths by a divergence too, to choose one, not to leave. Every probe reads out two depths.
    """

    name: ClassVar[str] = "kl-prev"
    signals: ClassVar[tuple[str, ...]] = ("kl_prev",)
    state: ClassVar[tuple[State, ...]] = ("previous distribution",)

    def scores(self, seen: Seen) -> Floats:
        """Minus the divergence, in nats."""
        return -np.asarray(seen.signals["kl_prev"], dtype=np.float64)

    @classmethod
    def grid(cls, num_blocks: int) -> Floats:
        """Minus divergences, in nats."""
        return DISTANCES


class Patience(ExitPolicy):
    """Leave when enough probes in a row predict the same token (PABEE, arXiv 2006.04152)."""

    name: ClassVar[str] = "patience"
    signals: ClassVar[tuple[str, ...]] = ("top1_id",)
    state: ClassVar[tuple[State, ...]] = ("earlier probes",)

    def scores(self, seen: Seen) -> Floats:
        """How many probes in a row before this one predicted the same token as this one does."""
        top1_id = np.asarray(seen.signals["top1_id"])
        count = np.zeros(top1_id.shape)
        for probe in range(1, top1_id.shape[1]):
            same = top1_id[:, probe] == top1_id[:, probe - 1]
            count[:, probe] = np.where(same, count[:, probe - 1] + 1, 0)
        return count

    @classmethod
    def grid(cls, num_blocks: int) -> Floats:
        """1 to L - 2 repetitions."""
        return np.arange(1, max(num_blocks - 1, 2), dtype=np.float64)
