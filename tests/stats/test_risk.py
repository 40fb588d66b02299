"""Losses of the three risks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exitbench.stats.risk import answer_losses, losses_of, task_losses, token_losses

DISAGREEMENTS = np.array([[0, 1, 4], [0, 0, 0], [0, 0, 0], [0, 2, 1]])
TOKENS = np.array([4, 5, 0, 2])


def test_losses_by_hand():
    """Shares over the wrong count; a changed answer counted by its tokens; a task loss of an unchanged answer."""
    np.testing.assert_equal(token_losses(DISAGREEMENTS, TOKENS), [[0, 0.25, 1], [0, 0, 0], [np.nan] * 3, [0, 1, 0.5]])
    np.testing.assert_equal(answer_losses(DISAGREEMENTS, TOKENS), [[0, 1, 1], [0, 0, 0], [np.nan] * 3, [0, 1, 1]])
    metric = np.array([0.5, 1, 1, 0])
    np.testing.assert_equal(
        task_losses(DISAGREEMENTS, TOKENS, metric), [[0, 0.5, 0.5], [0, 0, 0], [np.nan] * 3, [0, 0, 0]]
    )


def test_prompts_without_reference_have_no_task_loss():
    """A prompt that cannot be judged counted as one that lost nothing."""
    losses = losses_of("task", DISAGREEMENTS, tokens=TOKENS, metric=np.array([1, np.nan, 1, 1.0]))
    assert np.isnan(losses).all(axis=1).tolist() == [False, True, True, False]


@given(st.integers(1, 30), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_losses_are_in_range_and_ordered(num_prompts, num_thresholds, seed):
    """A loss that a certificate cannot take; a task risk above the answer risk, or a token risk above it."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, 9, num_prompts)
    disagreements = rng.integers(0, tokens[:, None] + 1, (num_prompts, num_thresholds))
    metric = rng.random(num_prompts)
    token, answer, task = (
        losses_of(risk, disagreements, tokens=tokens, metric=metric) for risk in ("token", "answer", "task")
    )
    for losses in (token, answer, task):
        assert losses.shape == disagreements.shape
        assert np.all((losses >= 0) & (losses <= 1))
    assert np.all(token <= answer)
    assert np.all(task <= answer)
    assert np.all((token > 0) == (answer == 1))


def test_the_task_loss_bounds_the_drop_of_the_metric():
    """A bound that a changed answer, right or wrong, can exceed."""
    rng = np.random.default_rng(0)
    full, changed = rng.integers(0, 2, 500), rng.random((500, 4)) < 0.3
    early = np.where(changed, rng.integers(0, 2, (500, 4)), full[:, None])
    losses = task_losses(changed.astype(int), np.ones(500), full.astype(float))
    assert np.all(losses >= full[:, None] - early)


def test_a_metric_out_of_range_is_a_bug():
    with pytest.raises(AssertionError):
        losses_of("task", DISAGREEMENTS, tokens=TOKENS, metric=np.array([1, 2, 0, 0.0]))
    with pytest.raises(AssertionError):
        losses_of("task", DISAGREEMENTS, tokens=TOKENS)
