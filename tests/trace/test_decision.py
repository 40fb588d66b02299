"""The decision depth of recorded top-1 ids."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from definition import decisions
from exitbench.trace.decision import decision_depths, settled_from

top1_ids = hnp.arrays(np.int32, st.tuples(st.integers(1, 12), st.integers(2, 7)), elements=st.integers(0, 2))


def slow_decision_depth(row):
    depth = len(row) - 1
    while depth > 0 and row[depth - 1] == row[-1]:
        depth -= 1
    return depth


@given(top1_ids)
def test_decision_depth_equals_the_obvious_loop(top1_id):
    """An off-by-one in the reversed accumulation."""
    assert decision_depths(top1_id).tolist() == [slow_decision_depth(row) for row in top1_id.tolist()]


@given(top1_ids)
def test_straight_from_hidden_states_it_is_the_same(top1_id):
    """Fast and full traces with two definitions of one figure."""
    hidden_LRD = torch.nn.functional.one_hot(torch.from_numpy(top1_id.T.astype(np.int64)), 3).float()
    got = decisions(hidden_LRD, lambda hidden_RD: hidden_RD)
    assert got.final_id.tolist() == top1_id[:, -1].tolist()
    assert got.decision_depth.tolist() == decision_depths(top1_id).tolist()
    assert got.final_id.dtype == got.decision_depth.dtype == decision_depths(top1_id).dtype


def test_settled_from_where_nothing_holds():
    """A condition false at the last depth must not look settled."""
    assert settled_from(np.array([[True, False], [False, True]])).tolist() == [2, 1]
