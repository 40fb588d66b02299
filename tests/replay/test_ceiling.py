"""The confidence threshold and its oracle: against slow references, and whether the promise is kept."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from exitbench.score.attainable import (
    NUM_FOLDS,
    THRESHOLDS,
    attain,
    deal_folds,
    loosest_thresholds,
    oracle,
    threshold_totals,
)
from exitbench.stats.bootstrap import Bootstrap, Prompts, draw_weights
from exitbench.trace.decided import first_match_depths, remaining_costs


def exit_depth(prob_row, threshold):
    """The policy, token by token."""
    num_blocks = len(prob_row) - 1
    for depth in range(1, num_blocks):
        if prob_row[depth] >= threshold:
            return depth
    return num_blocks


def prompts_of(num_prompts, per_prompt, categories=None):
    return Prompts(
        row_prompt=np.repeat(np.arange(num_prompts), per_prompt),
        categories=tuple(categories or ["chat"] * num_prompts),
    )


def bootstrap_of(prompts, *, draws=100, seed=0):
    weights = draw_weights(prompts.categories, draws=draws, rng=np.random.default_rng(seed))
    return Bootstrap(weights=weights)


@st.composite
def tokens(draw):
    shape = (draw(st.integers(1, 10)), draw(st.integers(2, 6)))
    top1_id = draw(hnp.arrays(np.int32, shape, elements=st.integers(0, 2)))
    # Includes exact grid points, both ends, and values between grid points.
    levels = st.sampled_from([0.0, 0.01, 0.005, 0.33, 0.5, 0.899, 0.99, 0.999999, 1.0])
    return top1_id, draw(hnp.arrays(np.float32, shape, elements=levels.map(lambda x: float(np.float32(x)))))


@settings(max_examples=50, deadline=None)
@given(tokens())
def test_totals_equal_the_policy_run_token_by_token(drawn):
    """Off by one between >= and >, a non-monotone confidence, or an exit at L counted as a saving."""
    top1_id, top1_prob = drawn
    num_rows, num_blocks = len(top1_id), top1_id.shape[1] - 1
    costs = tuple(np.arange(1, num_blocks + 1) / np.arange(1, num_blocks + 1).sum())
    rho = remaining_costs(costs)
    prompts = Prompts(row_prompt=np.arange(num_rows) // 3, categories=("chat",) * (-(-num_rows // 3)))
    totals = threshold_totals(top1_id, top1_prob, costs, prompts)
    for g in range(0, len(THRESHOLDS), 5):
        left = np.array([exit_depth(row, THRESHOLDS[g]) for row in top1_prob.astype(float)])
        wrong = top1_id[np.arange(num_rows), left] != top1_id[:, -1]
        np.testing.assert_allclose(totals.savings[:, g], prompts.sums(rho[left]), atol=1e-12)
        np.testing.assert_array_equal(totals.disagreements[:, g], prompts.sums(wrong))


@settings(max_examples=50, deadline=None)
@given(tokens(), st.data())
def test_first_match_bounds_every_policy_that_never_disagrees(drawn, data):
    """A policy that beats the upper bound: savings and bound measured in different units."""
    top1_id, top1_prob = drawn
    num_rows, num_blocks = len(top1_id), top1_id.shape[1] - 1
    costs = (1 / num_blocks,) * num_blocks
    rho = remaining_costs(costs)
    bound = rho[first_match_depths(top1_id)].sum()
    prompts = Prompts(row_prompt=np.zeros(num_rows, dtype=np.int64), categories=("chat",))
    totals = threshold_totals(top1_id, top1_prob, costs, prompts)
    faultless = totals.disagreements[0] == 0
    assert np.all(totals.savings[0, faultless] <= bound + 1e-12)
    any_agreeing = [data.draw(st.sampled_from(np.flatnonzero(row == row[-1]).tolist())) for row in top1_id]
    assert rho[any_agreeing].sum() <= bound + 1e-12


def test_grid_is_declared_dense_near_one():
    """A grid that jumps from 0.99 to never, where careful thresholds live; or one out of order."""
    assert np.all(np.diff(THRESHOLDS) > 0)
    assert (THRESHOLDS[0], THRESHOLDS[-1]) == (0.0, 1.0)
    assert 0.9999999 in THRESHOLDS
    assert np.max(np.diff(THRESHOLDS)) < 0.0125


def test_the_scan_stops_at_the_first_failure():
    """Keeping a loose threshold that passes by luck beyond one that failed."""
    loose_to_strict = np.array([0.0, 0.5, 0.02, 0.008, 0.0])
    assert loosest_thresholds(loose_to_strict, (0.01, 0.05, 0.6)) == [3, 2, 0]
    assert loosest_thresholds(np.array([0.0, 0.3]), (0.01,)) == [None]


def test_a_bound_at_exactly_eps_is_kept():
    """Strict and non-strict comparison mixed up: zero disagreements never allowed at eps = 0."""
    assert loosest_thresholds(np.zeros(3), (0.0,)) == [0]


@given(st.lists(st.sampled_from("abc"), min_size=10, max_size=40), st.integers(0, 5))
def test_folds_are_even_overall_and_in_every_category(categories, seed):
    """Small categories all dealt into fold 0, or a fold left empty."""
    folds = deal_folds(tuple(categories), np.random.default_rng(seed))
    for members in (np.ones(len(folds), dtype=bool), *(np.asarray(categories) == name for name in "abc")):
        sizes = np.bincount(folds[members], minlength=NUM_FOLDS)
        assert sizes.max() - sizes.min() <= 1


def noisy_tokens(rng, num_rows, num_blocks=4):
    """Tokens whose prediction at depth d is wrong with probability 1 - (their top-1 probability)."""
    final = np.zeros((num_rows, 1), dtype=np.int32)
    prob = rng.beta(2.0, 0.15, size=(num_rows, num_blocks))
    wrong = rng.random((num_rows, num_blocks)) > prob
    return np.concatenate([wrong.astype(np.int32), final], axis=1), np.concatenate([prob, final + 1], axis=1)


def slow_attain(top1_id, prob, rho, prompts, *, draws, eps, seed):
    """Cross-fitting written out: same folds and resamples, everything else by loops."""
    rng = np.random.default_rng(seed)
    folds = deal_folds(prompts.categories, rng)
    saved, wrong, chosen = 0.0, 0, []
    for fold in range(NUM_FOLDS):
        others = [p for p in range(prompts.num_prompts) if folds[p] != fold]
        weights = draw_weights([prompts.categories[p] for p in others], draws=draws, rng=rng)
        best = None
        for threshold in THRESHOLDS[::-1]:
            left = np.array([exit_depth(row, threshold) for row in prob])
            missed = top1_id[np.arange(len(left)), left] != top1_id[:, -1]
            by_prompt = [missed[prompts.row_prompt == p].sum() for p in others]
            sizes = [np.sum(prompts.row_prompt == p) for p in others]
            shares = [np.dot(row, by_prompt) / np.dot(row, sizes) for row in weights]
            if np.percentile(shares, 95) > eps:
                break
            best = threshold
        chosen.append(best)
        for row in np.flatnonzero(folds[prompts.row_prompt] == fold):
            left = len(rho) - 1 if best is None else exit_depth(prob[row], best)
            saved += rho[left]
            wrong += top1_id[row, left] != top1_id[row, -1]
    return saved / len(prob), wrong / len(prob), tuple(chosen)


@pytest.mark.parametrize("eps", [0.02, 0.2])
def test_cross_fitting_equals_the_slow_reference(eps):
    """A threshold chosen with a look at the held-out fold, or savings pooled as a mean of folds."""
    rng = np.random.default_rng(2)
    sizes = rng.integers(1, 9, size=14)
    prompts = Prompts(row_prompt=np.repeat(np.arange(14), sizes), categories=("a", "b") * 7)
    top1_id, prob = noisy_tokens(rng, sizes.sum())
    costs = (0.4, 0.3, 0.2, 0.1)
    bootstrap = bootstrap_of(prompts, draws=60)
    totals = threshold_totals(top1_id, prob, costs, prompts)
    (got,) = attain(totals, prompts, bootstrap, eps_grid=(eps,), seed=np.random.SeedSequence(9))
    saved, wrong, chosen = slow_attain(
        top1_id,
        prob,
        remaining_costs(costs),
        prompts,
        draws=60,
        eps=eps,
        seed=np.random.SeedSequence(9),
    )
    assert got.thresholds == chosen
    assert got.savings.value == pytest.approx(saved)
    assert got.disagreement.value == pytest.approx(wrong)


def test_the_promise_is_kept_on_average():
    """A bound taken from the wrong tail: half of all runs would then exceed eps."""
    rng = np.random.default_rng(4)
    met, saved = [], []
    for run in range(40):
        prompts = prompts_of(60, 40)
        top1_id, prob = noisy_tokens(rng, 60 * 40)
        totals = threshold_totals(top1_id, prob, (0.25,) * 4, prompts)
        bootstrap = bootstrap_of(prompts, draws=150)
        (got,) = attain(totals, prompts, bootstrap, eps_grid=(0.05,), seed=np.random.SeedSequence(run))
        met.append(float(got.disagreement.value))
        saved.append(float(got.savings.value))
    assert np.mean(saved) > 0.1
    assert 0.02 < np.mean(met) <= 0.05
    assert np.mean(np.asarray(met) > 0.05) <= 0.2


def test_no_threshold_qualifies_is_a_real_zero():
    """A confident and always wrong model: never leave, which saves exactly 0 and disagrees exactly 0."""
    top1_id = np.tile([1, 1, 0], (40, 1))
    prompts = prompts_of(20, 2)
    totals = threshold_totals(top1_id, np.ones((40, 3)), (0.5, 0.5), prompts)
    (got,) = attain(totals, prompts, bootstrap_of(prompts), eps_grid=(0.01,), seed=np.random.SeedSequence(0))
    assert got.thresholds == (None,) * NUM_FOLDS
    assert (got.savings.value, got.disagreement.value) == (0.0, 0.0)
    assert got.savings.figure().high == 0.0


def slow_oracle(first, rho, eps):
    allowed = int(eps * len(first) + 1e-9)
    late_first = sorted(first, reverse=True)
    return np.mean([rho[0] if rank < allowed else rho[depth] for rank, depth in enumerate(late_first)])


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.sampled_from([0.0, 0.01, 0.05, 0.29, 0.5, 1.0]))
def test_oracle_equals_sorting_the_tokens(first, eps):
    """Errors spent on tokens with little to gain, or one error too many."""
    rho = remaining_costs([0.1, 0.2, 0.3, 0.4])
    prompts = Prompts(row_prompt=np.arange(len(first)), categories=("chat",) * len(first))
    weights = draw_weights(prompts.categories, draws=4, rng=np.random.default_rng(0))
    counts = prompts.depth_counts(np.asarray(first), 5)
    got = oracle(counts, rho, Bootstrap(weights=weights), eps=eps)
    assert got.value == pytest.approx(slow_oracle(first, rho, eps))
    for value, row in zip(got.resamples, weights.astype(int), strict=True):
        assert value == pytest.approx(slow_oracle(np.repeat(first, row), rho, eps))


def test_oracle_with_no_errors_is_first_match_and_with_all_is_everything():
    """Ends of the oracle's range off."""
    rho = remaining_costs([0.5, 0.5])
    counts = np.array([[1.0, 2.0, 3.0]] * 10)
    bootstrap = Bootstrap(weights=np.ones((2, 10)))
    assert oracle(counts, rho, bootstrap, eps=0.0).value == pytest.approx((1 + 2 * 0.5) / 6)
    assert oracle(counts, rho, bootstrap, eps=1.0).value == pytest.approx(1)


def test_the_number_of_errors_is_floored_exactly():
    """0.29 * 100 is 28.999... in floats; its floor would take an error away from the oracle."""
    bootstrap = Bootstrap(weights=np.ones((2, 10)))
    counts = np.array([[0.0, 10.0]] * 10)
    assert oracle(counts, remaining_costs([1.0]), bootstrap, eps=0.29).value == pytest.approx(0.29)
