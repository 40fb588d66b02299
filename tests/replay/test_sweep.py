"""All thresholds in one pass, against every policy run token by token."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from exitbench.policies.builtin import POLICIES
from exitbench.policies.grids import PROBABILITIES
from exitbench.policies.policy import Calibration
from exitbench.policies.schedule import Schedule
from exitbench.replay.sweep import Totals, sweep
from exitbench.stats.bootstrap import Prompts
from exitbench.trace.decided import first_match_depths, remaining_costs
from watching import seen_of

NAN = float("nan")
# Exact grid points, both ends, values between grid points, and none.
LEVELS = st.sampled_from([0.0, 0.01, 0.005, 0.33, 0.5, 0.899, 0.99, 0.999999, 1.0, NAN, float("inf"), -float("inf")])


def exit_depth(scores, depths, threshold, num_blocks):
    """The rule, token by token."""
    for score, depth in zip(scores, depths, strict=True):
        if score >= threshold:
            return depth
    return num_blocks


def threes(num_rows):
    """Prompts of three tokens each."""
    return Prompts(row_prompt=np.arange(num_rows) // 3, categories=("chat",) * -(-num_rows // 3))


@st.composite
def replays(draw):
    num_rows, num_blocks = draw(st.integers(1, 10)), draw(st.integers(1, 6))
    depths = np.flatnonzero(draw(hnp.arrays(bool, num_blocks - 1))) + 1
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    scores = draw(hnp.arrays(np.float64, (num_rows, len(depths)), elements=LEVELS)).astype(dtype)
    top1_id = draw(hnp.arrays(np.int32, (num_rows, num_blocks + 1), elements=st.integers(0, 2)))
    values = draw(
        hnp.arrays(np.float64, (num_blocks + 1, draw(st.integers(1, 3))), elements=st.floats(-2, 2, width=16))
    )
    return scores, depths, top1_id, values


@settings(max_examples=80, deadline=None)
@given(replays())
def test_totals_equal_the_rule_token_by_token(drawn):
    """Off by one between >= and >, a falling score that takes an exit back, an exit at L counted as a saving."""
    scores, depths, top1_id, values = drawn
    num_rows, num_blocks = len(scores), len(values) - 1
    prompts = threes(num_rows)
    totals = sweep(scores, depths, top1_id == top1_id[:, -1:], values, prompts, PROBABILITIES)
    np.testing.assert_array_equal(totals.tokens, prompts.counts())
    for g in range(0, len(PROBABILITIES), 5):
        left = np.array([exit_depth(row, depths, PROBABILITIES[g], num_blocks) for row in scores.astype(float)])
        wrong = top1_id[np.arange(num_rows), left] != top1_id[:, -1]
        np.testing.assert_allclose(totals.values[:, g], prompts.sums(values[left]), atol=1e-12)
        np.testing.assert_array_equal(totals.disagreements[:, g], prompts.sums(wrong))


@settings(max_examples=50, deadline=None)
@given(replays(), st.data())
def test_first_match_bounds_every_policy_that_never_disagrees(drawn, data):
    """A policy that beats the upper bound: savings and bound measured in different units."""
    scores, depths, top1_id, values = drawn
    rho = remaining_costs([1 / (len(values) - 1)] * (len(values) - 1))
    bound = rho[first_match_depths(top1_id)].sum()
    prompts = Prompts(row_prompt=np.zeros(len(scores), dtype=np.int64), categories=("chat",))
    totals = sweep(scores, depths, top1_id == top1_id[:, -1:], rho[:, None], prompts, PROBABILITIES)
    faultless = totals.disagreements[0] == 0
    assert np.all(totals.values[0, faultless, 0] <= bound + 1e-12)
    any_agreeing = [data.draw(st.sampled_from(np.flatnonzero(row == row[-1]).tolist())) for row in top1_id]
    assert rho[any_agreeing].sum() <= bound + 1e-12


def signals_for(rng, shape):
    """Signals of running policies with ties and undefined entries."""
    prob = rng.choice([0.25, 0.5, 0.999, 1.0], size=shape) * rng.choice([1, 1, 0.7], size=shape)
    distance = rng.choice([0.0, 1e-6, 0.01, 0.5, 4.0], size=shape)
    undefined = np.where(rng.random(shape) < 0.1, NAN, 0)
    return {
        "top1_id": rng.integers(0, 2, size=shape),
        "top1_prob": prob,
        "margin": prob * 0.9,
        "entropy": distance,
        "kl_prev": distance + undefined,
        "hidden_cosine_prev": 1 - distance / 4 + undefined,
    }


@pytest.mark.parametrize("schedule", ["every", "every-2", "3", "none"])
@pytest.mark.parametrize("name", sorted(POLICIES))
def test_every_policy_swept_equals_every_policy_walked(name, schedule):
    """A policy whose exits are not those that its totals count."""
    rng, num_rows, num_blocks = np.random.default_rng(5), 40, 6
    policy = POLICIES.get(name)(schedule=Schedule.parse(schedule))
    depths = policy.schedule.at(num_blocks)
    signals = signals_for(rng, (num_rows, len(depths)))
    seen = seen_of(depths=depths, num_blocks=num_blocks, position=np.arange(num_rows) % 8, limit=8, **signals)
    top1_id = rng.integers(0, 2, size=(num_rows, num_blocks + 1))
    agrees = top1_id == top1_id[:, -1:]
    rho = remaining_costs([0.1, 0.3, 0.1, 0.2, 0.2, 0.1])
    even = np.linspace(0, 1, num_blocks + 1)
    policy = policy.fitted(
        Calibration(seen=seen, agrees=agrees[:, depths], decided=even, rho=rho, probe_cost=0.1, weights_sha256="0")
    )
    grid, prompts = policy.grid(num_blocks), threes(num_rows)
    totals = sweep(policy.scores(seen), depths, agrees, rho[:, None], prompts, grid)
    for g, threshold in list(enumerate(grid))[:: max(len(grid) // 20, 1)]:
        walked = np.full(num_rows, num_blocks)
        calibrated = policy.model_copy(update={"threshold": float(threshold)})
        for count in range(len(depths), 0, -1):
            walked[calibrated.leaves(seen.up_to(count))] = depths[count - 1]
        np.testing.assert_array_equal(calibrated.exits(seen), walked)
        wrong = ~agrees[np.arange(num_rows), walked]
        np.testing.assert_allclose(totals.values[:, g, 0], prompts.sums(rho[walked]), atol=1e-12)
        np.testing.assert_array_equal(totals.disagreements[:, g], prompts.sums(wrong))


def test_by_hand():
    """Totals of another prompt, or of all; a threshold met exactly that does not count."""
    scores = np.array([[0.2, 0.8], [0.5, 0.1], [NAN, 0.5]])
    agrees = np.array([[True, False, True, True], [True, False, False, True], [True, True, False, True]])
    values = np.array([[9.0, 9], [0.75, 1], [0.25, 2], [0, 0]])
    prompts = Prompts(row_prompt=np.array([0, 0, 1]), categories=("a", "b"))
    totals = sweep(scores, np.array([1, 2]), agrees, values, prompts, np.array([0.0, 0.5, 0.9]))
    assert totals.tokens.tolist() == [2, 1]
    # Threshold 0: all leave where they can. 0.5: at depths 2, 1 and 2. 0.9: nobody leaves.
    assert totals.values.tolist() == [[[1.5, 2], [1, 3], [0, 0]], [[0.25, 2], [0.25, 2], [0, 0]]]
    assert totals.disagreements.tolist() == [[2, 1, 0], [1, 1, 0]]


def test_what_the_last_block_counts_is_kept():
    """A cost that also those bear who never leave, taken for 0."""
    totals = sweep(
        np.array([[1.0], [0.0]]), np.array([1]), np.ones((2, 3), dtype=bool), np.array([[0.0], [1], [5]]), threes(2),
        np.array([0.5]),
    )  # fmt: skip
    assert totals.values.tolist() == [[[6.0]]]


def test_no_probes():
    """A model of one block, or probes of which none pays: an index error, or savings from nothing."""
    for num_blocks in (1, 4):
        agrees, rho = np.ones((3, num_blocks + 1), dtype=bool), np.linspace(1, 0, num_blocks + 1)[:, None]
        totals = sweep(np.empty((3, 0)), np.array([], dtype=np.int64), agrees, rho, threes(3), PROBABILITIES)
        assert not totals.values.any()
        assert not totals.disagreements.any()
        assert totals.tokens.tolist() == [3]


def test_totals_of_some_prompts():
    """One of the three arrays left whole."""
    totals = Totals(
        values=np.arange(12.0).reshape(3, 2, 2), disagreements=np.arange(6.0).reshape(3, 2), tokens=np.arange(3.0)
    )
    for keep in ([2, 0], np.array([True, False, True])):
        part = totals.of(np.asarray(keep))
        assert part.tokens.shape == (2,)
        assert part.values.shape == (2, 2, 2)
        assert part.disagreements.shape == (2, 2)
    assert totals.of(np.array([2])).values.tolist() == [[[8, 9], [10, 11]]]
