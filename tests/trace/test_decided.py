"""Depths at which tokens are settled, and what they save: closed forms, and laws over random top-1 ids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from exitbench.trace.decided import final_run, first_match_depths, remaining_costs, tv_depths
from exitbench.trace.decision import decision_depths

top1_ids = hnp.arrays(np.int32, st.tuples(st.integers(1, 12), st.integers(2, 7)), elements=st.integers(0, 2))


def ees(top1_id):
    num_blocks = top1_id.shape[1] - 1
    return remaining_costs([1 / num_blocks] * num_blocks)[decision_depths(top1_id)].mean()


def test_remaining_costs_end_at_exactly_zero():
    """A rounding residue at depth L would credit savings to tokens that never leave."""
    rho = remaining_costs([0.1] * 10)
    assert rho[-1] == 0.0
    assert rho[0] == pytest.approx(1)
    np.testing.assert_allclose(rho, 1 - np.arange(11) / 10, atol=1e-12)


@given(top1_ids)
def test_first_match_is_never_later(top1_id):
    """First match taken from the wrong end."""
    first = first_match_depths(top1_id)
    assert np.all(first <= decision_depths(top1_id))
    rows = np.arange(len(top1_id))
    assert np.all(top1_id[rows, first] == top1_id[:, -1])


@given(top1_ids, st.data())
def test_earlier_agreement_never_lowers_ees(top1_id, data):
    """A score that can fall when a prediction is made right earlier."""
    row = data.draw(st.integers(0, len(top1_id) - 1))
    depth = data.draw(st.integers(0, top1_id.shape[1] - 1))
    improved = top1_id.copy()
    improved[row, depth] = improved[row, -1]
    assert ees(improved) >= ees(top1_id)


@given(top1_ids, st.integers(1, 9))
def test_identity_blocks_shrink_the_rest_exactly(top1_id, num_added):
    """A cost share not renormalised over the blocks there are."""
    num_blocks = top1_id.shape[1] - 1
    longer = np.concatenate([top1_id, np.repeat(top1_id[:, -1:], num_added, axis=1)], axis=1)
    expected = (1 - ees(top1_id)) * num_blocks / (num_blocks + num_added)
    assert 1 - ees(longer) == pytest.approx(expected, abs=1e-12)


@given(top1_ids, st.permutations(range(3)))
def test_renaming_the_vocabulary_changes_nothing(top1_id, names):
    """Depths that depend on the order of ids rather than on their equality."""
    renamed = np.asarray(names)[top1_id]
    assert np.array_equal(decision_depths(renamed), decision_depths(top1_id))
    assert np.array_equal(first_match_depths(renamed), first_match_depths(top1_id))
    assert np.array_equal(final_run(renamed)[1], final_run(top1_id)[1])


@given(top1_ids, st.lists(st.floats(0.01, 1), min_size=6, max_size=6))
def test_ees_is_the_cost_weighted_sum_of_the_decided_curve(top1_id, raw_costs):
    """EES and F(d) computed from different depths or costs shifted by one block."""
    num_blocks = top1_id.shape[1] - 1
    costs = np.asarray(raw_costs[:num_blocks]) / sum(raw_costs[:num_blocks])
    decided = decision_depths(top1_id)
    share = np.mean(decided[:, None] <= np.arange(num_blocks), axis=0)
    assert remaining_costs(costs)[decided].mean() == pytest.approx(share @ costs, abs=1e-12)


def test_both_ends_and_a_ramp_in_closed_form():
    """Ends of the scale that cannot be reached, or a ramp off by half a block."""
    constant = np.ones((3, 9), dtype=np.int32)
    assert ees(constant) == 1
    last_only = np.zeros((3, 9), dtype=np.int32)
    last_only[:, -1] = 1
    assert ees(last_only) == 0
    # One token decided at each depth 0..8: mean of 1 - d/8 is 1/2.
    ramp = (np.arange(9) >= np.arange(9)[:, None]).astype(np.int32)
    assert ees(ramp) == pytest.approx(0.5)


@pytest.mark.parametrize("num_tail", [1, 3, 7])
def test_identity_tail(num_tail):
    """A tail of blocks that change nothing must count in full and no more."""
    top1_id = np.arange(9)[None].repeat(4, axis=0)
    top1_id[:, 9 - num_tail :] = top1_id[:, [8 - num_tail]]
    assert ees(top1_id) == pytest.approx(num_tail / 8)


def test_total_variation_needs_every_deeper_depth():
    """Taking the first depth below the bound instead of the first after which all are."""
    tv_final = np.array([[0.05, 0.5, 0.05, 0.0], [0.1, 0.1, 0.1, 0.0]])
    assert tv_depths(tv_final, 0.1).tolist() == [2, 3]
    assert tv_depths(tv_final, 0.6).tolist() == [0, 0]


def test_final_run_looks_below_the_last_depth():
    """The null's v and s taken from the final depth, which would make every token match itself."""
    before, start = final_run(np.array([[1, 2, 2, 9], [3, 3, 3, 3], [1, 2, 3, 3], [4, 5, 4, 4]]))
    assert before.tolist() == [2, 3, 3, 4]
    assert start.tolist() == [1, 0, 2, 2]


def test_final_run_of_a_single_block():
    """A model of one block has one depth below the last."""
    before, start = final_run(np.array([[7, 8]]))
    assert (before.tolist(), start.tolist()) == ([7], [0])
