"""Scores and exits of the policies that wait for agreement between depths, by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from exitbench.policies.agreement import HiddenSaturation, KlToPrevious, Patience
from watching import seen_of

NAN = float("nan")


def test_saturated_hidden_states_leave():
    """A sign the wrong way round; a cosine of exactly 1 that is not enough for the strictest threshold."""
    seen = seen_of(hidden_cosine_prev=[[0.5, 0.75, 1.0], [-1.0, NAN, 0.5]])
    np.testing.assert_array_equal(HiddenSaturation().scores(seen), [[-0.5, -0.25, 0], [-2, NAN, -0.5]])
    assert HiddenSaturation(threshold=0.0).exits(seen).tolist() == [3, 4]
    assert HiddenSaturation(threshold=-0.25).exits(seen).tolist() == [2, 4]
    assert HiddenSaturation(threshold=-2).exits(seen).tolist() == [1, 1]


def test_a_small_divergence_leaves():
    """Leaving where a block changed most; a probe whose signal is undefined that counts as settled."""
    seen = seen_of(kl_prev=[[2.0, 0.5, 0.0], [NAN, 0.25, 3.0]])
    np.testing.assert_array_equal(KlToPrevious().scores(seen), [[-2, -0.5, 0], [NAN, -0.25, -3]])
    assert KlToPrevious(threshold=-0.5).exits(seen).tolist() == [2, 2]
    assert KlToPrevious(threshold=0.0).exits(seen).tolist() == [3, 4]


def test_patience_counts_repetitions():
    """PABEE's counter off by one, not set back by a change, or counting agreement with the first probe."""
    seen = seen_of(top1_id=[[7, 7, 7, 7], [7, 7, 5, 5], [5, 7, 5, 7], [1, 2, 2, 2]])
    assert Patience().scores(seen).tolist() == [[0, 1, 2, 3], [0, 1, 0, 1], [0, 0, 0, 0], [0, 0, 1, 2]]
    assert Patience(threshold=1).exits(seen).tolist() == [2, 2, 5, 3]
    assert Patience(threshold=2).exits(seen).tolist() == [3, 5, 5, 4]
    assert Patience(threshold=3).exits(seen).tolist() == [4, 5, 5, 5]


@settings(deadline=None)
@given(hnp.arrays(np.int32, st.tuples(st.integers(0, 5), st.integers(0, 7)), elements=st.integers(0, 2)))
def test_patience_equals_counting_backwards(top1_id):
    """Columns mixed up where rows differ; a crash without tokens or without probes."""
    got = Patience().scores(seen_of(top1_id=top1_id))
    for n, row in enumerate(top1_id):
        for k in range(len(row)):
            count = next((back for back in range(k + 1) if back == k or row[k - back - 1] != row[k]), k)
            assert got[n, k] == count


@pytest.mark.parametrize(("num_blocks", "grid"), [(1, [1]), (2, [1]), (3, [1]), (4, [1, 2]), (6, [1, 2, 3, 4])])
def test_patience_grid_is_what_can_be_reached(num_blocks, grid):
    """A threshold that no token of the model could reach; an empty grid for a small model."""
    assert Patience.grid(num_blocks).tolist() == grid
