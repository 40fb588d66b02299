"""The bootstrap: what it resamples, when it refuses, and whether its intervals cover."""

import numpy as np
import pytest

from exitbench.stats.bootstrap import Bootstrap, Prompts, draw_weights, ratio


def prompts_of(counts, categories=None):
    return Prompts(
        row_prompt=np.repeat(np.arange(len(counts)), counts),
        categories=tuple(categories or ["chat"] * len(counts)),
    )


def bootstrap_of(prompts, *, draws=200, seed=0):
    weights = draw_weights(prompts.categories, draws=draws, rng=np.random.default_rng(seed))
    return Bootstrap(weights=weights)


def test_prompts_skip_samples_without_tokens(make_trace):
    """A failed sample counted as a prompt of zero tokens."""
    trace = make_trace([[1, 1]] * 5, prompts=[0, 0, 2, 2, 2], categories=["a", "b", "c"], failed=[1])
    prompts = Prompts.of(trace)
    assert prompts.categories == ("a", "c")
    assert prompts.counts().tolist() == [2, 3]


def test_sums_equal_a_loop_also_with_a_mask():
    """reduceat returns the next row, not 0, for an empty group: prompts without kept tokens must sum to 0."""
    prompts = prompts_of([3, 1, 4, 2])
    rng = np.random.default_rng(0)
    values = rng.normal(size=(10, 5))
    for keep in (None, np.array([True, False, True, False, True, True, True, True, False, False])):
        expected = np.zeros((4, 5))
        for row, prompt in enumerate(prompts.row_prompt):
            if keep is None or keep[row]:
                expected[prompt] += values[row]
        np.testing.assert_allclose(prompts.sums(values, keep), expected)
        kept = np.ones(10) if keep is None else keep
        assert prompts.counts(keep).tolist() == prompts.sums(np.asarray(kept, dtype=float)).tolist()
    assert prompts.sums(values, np.zeros(10, dtype=bool)).tolist() == np.zeros((4, 5)).tolist()


def test_sums_accumulate_in_double_precision():
    """float32 accumulation loses small terms after a large one."""
    values = np.array([2**25, 1, 1], dtype=np.float32)
    assert prompts_of([3]).sums(values).tolist() == [2**25 + 2]


def test_depth_counts():
    """Counts assigned to the neighbouring prompt's depths."""
    counts = prompts_of([2, 3]).depth_counts(np.array([0, 2, 1, 1, 2]), 3)
    assert counts.tolist() == [[1, 0, 1], [0, 2, 1]]


def test_weights_keep_the_mix_of_categories():
    """Resampling across categories would add the workload's mix to the uncertainty."""
    categories = ["a"] * 4 + ["b"] * 7 + ["c"]
    weights = draw_weights(categories, draws=50, rng=np.random.default_rng(1))
    assert np.all(weights[:, :4].sum(axis=1) == 4)
    assert np.all(weights[:, 4:11].sum(axis=1) == 7)
    assert np.all(weights[:, 11] == 1)
    assert weights[:, :4].std() > 0


@pytest.mark.parametrize(("num_prompts", "has_interval"), [(9, False), (10, True)])
def test_fewer_than_ten_prompts_have_no_interval(num_prompts, has_interval):
    """An interval that a handful of prompts cannot support."""
    prompts = prompts_of([5] * num_prompts)
    values = np.random.default_rng(0).random(5 * num_prompts)
    bootstrap = bootstrap_of(prompts)
    figure = bootstrap.mean(prompts.sums(values), prompts.counts()).figure()
    assert figure.value == pytest.approx(values.mean())
    assert (figure.low is not None) == has_interval
    assert (figure.high is not None) == has_interval
    curve = bootstrap.mean(prompts.sums(values[:, None]), prompts.counts()).curve("depth", [0])
    assert (curve.low[0] is not None) == has_interval


def test_counts_are_of_the_tokens_that_matter():
    """n taken from the whole trace for a figure over a subset of it."""
    prompts = prompts_of([5] * 12)
    keep = prompts.row_prompt < 3
    figure = bootstrap_of(prompts).mean(prompts.sums(np.ones(60), keep), prompts.counts(keep)).figure()
    assert (figure.n_tokens, figure.n_prompts, figure.low) == (15, 3, None)


def test_undefined_resamples_mean_no_interval():
    """Percentiles over only those resamples in which the figure happened to exist."""
    prompts = prompts_of([1] * 10)
    estimate = bootstrap_of(prompts).mean(np.ones(10), np.ones(10))
    holed = estimate.map(lambda values: np.where(np.arange(values.size).reshape(values.shape) == 7, np.nan, values))
    figure = holed.figure()
    assert (figure.value, figure.low, figure.high) == (1.0, None, None)


def test_no_tokens_is_none_not_zero():
    """0/0 published as 0."""
    prompts = prompts_of([2] * 10)
    nothing = np.zeros(20, dtype=bool)
    assert bootstrap_of(prompts).mean(prompts.sums(np.ones(20), nothing), prompts.counts(nothing)).figure() is None
    assert np.isnan(ratio(np.array([1.0]), np.array([0.0])))[0]


def test_value_is_the_ratio_of_sums():
    """A mean of per-prompt means, which weighs short answers too much."""
    prompts = prompts_of([1, 9, *[1] * 8])
    values = (prompts.row_prompt == 1).astype(float)
    estimate = bootstrap_of(prompts).mean(prompts.sums(values), prompts.counts())
    assert estimate.value == pytest.approx(9 / 18)


def test_paired_estimates_share_their_resamples():
    """Independent resamples for two figures: the difference of a thing to itself would get a width."""
    prompts = prompts_of([3] * 15)
    estimate = bootstrap_of(prompts).mean(prompts.sums(np.random.default_rng(0).random(45)), prompts.counts())
    figure = estimate.map(lambda left, right: left - right, estimate).figure()
    assert (figure.value, figure.low, figure.high) == (0.0, 0.0, 0.0)


def test_intervals_cover_the_truth_when_tokens_of_a_prompt_agree():
    """Resampling tokens instead of prompts: where a prompt's tokens are alike that covers about a third."""
    rng = np.random.default_rng(5)
    covered = 0
    num_runs = 300
    for _ in range(num_runs):
        counts = rng.integers(5, 40, size=50)
        prompts = prompts_of(counts, ["a"] * 25 + ["b"] * 25)
        truth = np.where(np.arange(50) < 25, 0.3, 0.7)
        level = np.clip(truth + rng.normal(scale=0.1, size=50), 0, 1)
        totals = counts * level
        weights = draw_weights(prompts.categories, draws=300, rng=rng)
        figure = Bootstrap(weights=weights).mean(totals, counts.astype(float)).figure()
        covered += figure.low <= 0.5 <= figure.high
    assert 0.89 <= covered / num_runs <= 0.985
