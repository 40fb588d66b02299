"""The closed form of the null against the double loop that defines it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from exitbench.score.chance import corrected_for_chance, null_suitability
from exitbench.stats.bootstrap import Bootstrap, Prompts, draw_weights
from exitbench.trace.decided import final_run, remaining_costs


def brute_force(top1_id, rho, row_prompt, weights):
    """The definition, token pair by token pair; a prompt drawn w times stands there w times."""
    before, start = final_run(top1_id)
    total, pairs = 0.0, 0.0
    for t, final in enumerate(top1_id[:, -1]):
        for u, earlier in enumerate(before):
            if row_prompt[t] == row_prompt[u]:
                continue
            copies = weights[row_prompt[t]] * weights[row_prompt[u]]
            pairs += copies
            total += copies * (final == earlier) * rho[start[u]]
    return total / pairs if pairs else np.nan


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(np.int32, st.tuples(st.integers(1, 14), st.integers(2, 5)), elements=st.integers(0, 3)),
    st.data(),
)
def test_closed_form_equals_the_double_loop_in_every_resample(top1_id, data):
    """Pairs inside a prompt, or between copies of one prompt in a resample, counted as chance."""
    num_rows, num_blocks = len(top1_id), top1_id.shape[1] - 1
    new_prompt = data.draw(hnp.arrays(np.bool_, num_rows))
    new_prompt[0] = True
    row_prompt = np.cumsum(new_prompt) - 1
    num_prompts = row_prompt[-1] + 1
    prompts = Prompts(row_prompt=row_prompt, categories=("chat",) * num_prompts)
    weights = draw_weights(prompts.categories, draws=5, rng=np.random.default_rng(0))
    rho = remaining_costs(np.arange(1, num_blocks + 1) / np.arange(1, num_blocks + 1).sum())
    estimate = null_suitability(top1_id, rho, prompts, Bootstrap(weights=weights))
    for got, row in zip([estimate.value, *estimate.resamples], [np.ones(num_prompts), *weights], strict=True):
        np.testing.assert_allclose(got, brute_force(top1_id, rho, row_prompt, row), atol=1e-12)


def test_chunks_of_resamples_change_nothing(monkeypatch):
    """A chunk boundary that drops or repeats a resample."""
    rng = np.random.default_rng(3)
    top1_id = rng.integers(4, size=(60, 4))
    prompts = Prompts(row_prompt=np.repeat(np.arange(12), 5), categories=("chat",) * 12)
    bootstrap = Bootstrap(weights=draw_weights(prompts.categories, draws=103, rng=rng))
    rho = remaining_costs([1 / 3] * 3)
    whole = null_suitability(top1_id, rho, prompts, bootstrap).resamples
    monkeypatch.setattr("exitbench.score.chance._DRAWS_AT_ONCE", 10)
    np.testing.assert_allclose(null_suitability(top1_id, rho, prompts, bootstrap).resamples, whole)


def test_one_prompt_has_no_null():
    """No pair of different prompts published as a null of 0, which would make EES* equal EES."""
    top1_id = np.ones((5, 3), dtype=np.int32)
    prompts = Prompts(row_prompt=np.zeros(5, dtype=np.int64), categories=("chat",))
    null = null_suitability(top1_id, remaining_costs([0.5, 0.5]), prompts, Bootstrap(weights=np.ones((3, 1))))
    assert null.figure() is None
    assert corrected_for_chance(null, null).figure() is None


def test_a_model_that_always_says_the_same_is_all_chance():
    """A constant predictor credited for deciding early: its null is 1 and EES* rounding over rounding."""
    top1_id = np.full((20, 4), 7)
    prompts = Prompts(row_prompt=np.arange(20), categories=("chat",) * 20)
    weights = draw_weights(prompts.categories, draws=20, rng=np.random.default_rng(0))
    bootstrap = Bootstrap(weights=weights)
    rho = remaining_costs([0.3, 0.3, 0.4])
    rho[0] -= 1e-13
    null = null_suitability(top1_id, rho, prompts, bootstrap)
    assert null.value == pytest.approx(1)
    ees = bootstrap.mean(np.ones(20), prompts.counts())
    assert corrected_for_chance(ees, null).figure() is None


def test_skewed_independent_predictions_correct_to_nothing():
    """Depths that draw independently from a skewed vocabulary agree by chance: EES* must be near 0."""
    rng = np.random.default_rng(11)
    vocabulary = np.array([0.7, 0.1, 0.1, 0.1])
    num_prompts, per_prompt = 100, 40
    final = rng.choice(4, p=vocabulary, size=num_prompts * per_prompt)
    below = rng.choice(4, p=vocabulary, size=(num_prompts * per_prompt, 1)).repeat(4, axis=1)
    top1_id = np.concatenate([below, final[:, None]], axis=1)
    prompts = Prompts(row_prompt=np.repeat(np.arange(num_prompts), per_prompt), categories=("chat",) * num_prompts)
    weights = draw_weights(prompts.categories, draws=200, rng=rng)
    bootstrap = Bootstrap(weights=weights)
    rho = remaining_costs([0.25] * 4)
    agree_from = np.where(below[:, 0] == final, 0, 4)
    ees = bootstrap.mean(prompts.sums(rho[agree_from]), prompts.counts())
    star = corrected_for_chance(ees, null_suitability(top1_id, rho, prompts, bootstrap)).figure()
    assert ees.value > 0.45
    assert star.low <= 0 <= star.high
