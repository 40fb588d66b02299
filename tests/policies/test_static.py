"""Policies that look at no token."""

from fractions import Fraction
from math import ceil

import numpy as np
import pytest

from exitbench.policies.schedule import Schedule
from exitbench.policies.static import FixedDepth, PositionSchedule
from watching import seen_of


def test_fixed_depth_is_the_first_probe_at_or_behind_it():
    """Exits at depths that are no probes, or one too late."""
    seen = seen_of(depths=[2, 4, 6], num_blocks=8, num_tokens=3)
    assert FixedDepth().scores(seen).tolist() == [[2, 4, 6]] * 3
    for threshold, depth in ((1, 2), (2, 2), (3, 4), (6, 6), (7, 8)):
        assert FixedDepth(threshold=threshold).exits(seen).tolist() == [depth] * 3
    assert FixedDepth.grid(8).tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert FixedDepth.grid(1).tolist() == [1]


def slow_depth(position, limit, num_blocks, least):
    """L - (L - m) t / (T - 1), in exact fractions, rounded up to a depth."""
    progress = min(Fraction(position, max(limit - 1, 1)), Fraction(1))
    return ceil(num_blocks - (num_blocks - least) * progress)


@pytest.mark.parametrize("num_blocks", [2, 3, 12, 33])
@pytest.mark.parametrize("limit", [1, 2, 12, 32, 50])
def test_skipdecode_equals_the_line_in_exact_fractions(num_blocks, limit):
    """A share of the answer rounded in floats, so that a token at a whole depth leaves one block late."""
    positions = np.arange(limit + 3)
    seen = seen_of(depths=range(1, num_blocks), num_tokens=len(positions), position=positions, limit=limit)
    for least in PositionSchedule.grid(num_blocks).astype(int):
        expected = [max(slow_depth(t, limit, num_blocks, least), 1) for t in positions]
        assert PositionSchedule(threshold=least).exits(seen).tolist() == expected


def test_skipdecode_by_hand():
    """The ends exchanged: the first token must run through, the last may leave at m."""
    seen = seen_of(depths=[1, 2, 3], num_tokens=4, position=[0, 1, 2, 3], limit=4)
    assert PositionSchedule(threshold=1).exits(seen).tolist() == [4, 3, 2, 1]
    assert PositionSchedule(threshold=0).exits(seen).tolist() == [4, 3, 2, 1]
    assert PositionSchedule(threshold=3).exits(seen).tolist() == [4, 4, 4, 3]


def test_skipdecode_rounds_up_to_a_probe():
    """Rounding down: a token that leaves before it should."""
    depths = Schedule(every=2).at(6)
    seen = seen_of(depths=depths, num_blocks=6, num_tokens=2, position=[5, 9], limit=11)
    # 6 - 5 / 2 = 3.5 and 6 - 4.5 = 1.5, for m = 1.
    assert PositionSchedule(threshold=1).exits(seen).tolist() == [4, 2]
