"""Policies that look at no token: depth alone, or depth and position."""

from typing import ClassVar

import numpy as np

from exitbench.policies.policy import ExitPolicy, Floats, Seen, State

__all__ = ["FixedDepth", "PositionSchedule"]


class FixedDepth(ExitPolicy):
    """Leave at the same depth always: the model cut off there (LayerSkip, arXiv 2404.16710, evaluates just this)."""

    name: ClassVar[str] = "fixed-depth"
    reads_out: ClassVar[bool] = False

    def scores(self, seen: Seen) -> Floats:
        """The depth itself."""
        shape = (len(seen.answer_position), len(seen.depths))
        return np.broadcast_to(seen.depths.astype(np.float64), shape).copy()

    @classmethod
    def grid(cls, num_blocks: int) -> Floats:
        """Depths 1 to L - 1."""
        return np.arange(1, max(num_blocks, 2), dtype=np.float64)


class PositionSchedule(ExitPolicy):
    """Leave the earlier the longer an answer already is (SkipDecode, arXiv 2307.02628).

    Token t of at most T runs to depth L - (L - m) t / (T - 1), rounded up to a probe: L blocks for the first token, m
    for the last possible one. All tokens at one position leave alike, which is what makes batches and caches simple.
    """

    name: ClassVar[str] = "skipdecode"
    reads_out: ClassVar[bool] = False
    state: ClassVar[tuple[State, ...]] = ("answer position",)

    def scores(self, seen: Seen) -> Floats:
        """The largest m with which a token leaves at each depth, given its position."""
        last = max(seen.answer_limit - 1, 1)
        position = np.minimum(seen.answer_position, last)[:, None]
        left = seen.num_blocks - seen.depths
        with np.errstate(divide="ignore"):  # whole numbers up to the one division, so that whole m are hit exactly
            return np.asarray(seen.num_blocks - left * last / position)

    @classmethod
    def grid(cls, num_blocks: int) -> Floats:
        """m, from 0 to L - 1."""
        return np.arange(num_blocks, dtype=np.float64)
