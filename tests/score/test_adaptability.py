"""EAS: its closed form, and the weaknesses it is known for."""

import numpy as np
import pytest

from exitbench.score.adaptability import ALPHAS, adaptability
from exitbench.stats.bootstrap import Bootstrap, Prompts, draw_weights


def eas(similarity):
    num_rows = len(similarity)
    prompts = Prompts(row_prompt=np.arange(num_rows), categories=("chat",) * num_rows)
    weights = draw_weights(prompts.categories, draws=20, rng=np.random.default_rng(0))
    return adaptability(similarity, prompts, Bootstrap(weights=weights)).value


def cosines(logits):
    """Cosine of each depth's logits to the last depth's; logits (depths, vocabulary)."""
    norms = np.linalg.norm(logits, axis=1)
    return (logits @ logits[-1] / (norms * norms[-1]))[None]


def centred(logits):
    return logits - logits.mean(axis=1, keepdims=True)


def test_hand_computed():
    """Depth 0 averaged in, or the weight of depth l taken as l / L."""
    # L = 2, S = 0.25 at depth 1: A_1 = sqrt(0.25 * 1/2), A_2 = 0.
    value = eas(np.array([[0.9, 0.25, 1.0]]))[ALPHAS.index(0.5)]
    assert value == pytest.approx(np.sqrt(0.125) / 2)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_cannot_reach_one_at_perfect_similarity(alpha):
    """The limit at S = 1 is 1 / (2 - alpha); a score reaching 1 is another score."""
    num_blocks = 20_000
    value = eas(np.ones((1, num_blocks + 1)))[ALPHAS.index(alpha)]
    assert value == pytest.approx(1 / (2 - alpha), abs=1e-3)


def test_logit_cosine_moves_with_a_constant_and_the_centred_one_does_not():
    """A constant added to all logits changes no prediction; only centring makes similarity blind to it."""
    logits = np.random.default_rng(0).normal(size=(6, 50))
    shifted = logits + 10.0
    assert np.max(np.abs(eas(cosines(shifted)) - eas(cosines(logits)))) > 0.1
    np.testing.assert_allclose(eas(cosines(centred(shifted))), eas(cosines(centred(logits))), atol=1e-9)


def test_negative_similarity_is_clipped():
    """A fractional power of a negative number is NaN, which would void the whole score."""
    value = eas(np.array([[-0.9, -0.5, 0.25, 1.0]]))
    assert np.all(np.isfinite(value))
    np.testing.assert_allclose(value, eas(np.array([[0.0, 0.0, 0.25, 1.0]])))


def test_the_mean_is_clipped_not_the_tokens():
    """Clipping token by token would turn noise around 0 into similarity."""
    assert np.all(eas(np.array([[0, 0.5, 1.0], [0, -0.5, 1.0]])) == 0)
