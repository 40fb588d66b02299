"""Scores and exits of the policies that trust a depth's own confidence, by hand."""

import numpy as np
import pytest

from exitbench.policies.confidence import DecayingThreshold, Entropy, Margin, TopProbability
from watching import seen_of

NAN = float("nan")


@pytest.mark.parametrize(("kind", "signal"), [(TopProbability, "top1_prob"), (Margin, "margin")])
def test_shares_are_their_own_score(kind, signal):
    """A threshold compared with > in place of >=, the deepest probe in place of the first, or a NaN that leaves."""
    seen = seen_of(**{signal: [[0.5, 0.25, 1], [0.25, 0.5, 0.5], [0, 0.25, 0.375], [NAN, NAN, 0.5]]}, num_blocks=5)
    np.testing.assert_array_equal(kind().scores(seen), seen.signals[signal])
    assert kind().scores(seen).dtype == np.float64
    assert kind(threshold=0.5).exits(seen).tolist() == [1, 2, 5, 3]
    assert kind(threshold=0.0).exits(seen).tolist() == [1, 1, 1, 3]
    assert kind(threshold=1.0).exits(seen).tolist() == [3, 5, 5, 5]


def test_low_entropy_leaves():
    """Leaving where the distribution is widest."""
    seen = seen_of(entropy=[[3, 0.5, 0], [0.5, 3, 0.25]], num_blocks=4)
    assert Entropy().scores(seen).tolist() == [[-3, -0.5, 0], [-0.5, -3, -0.25]]
    assert Entropy(threshold=-0.5).exits(seen).tolist() == [2, 1]
    assert Entropy(threshold=-0.3).exits(seen).tolist() == [3, 3]
    assert Entropy(threshold=0.0).exits(seen).tolist() == [3, 4]


def slow_calm(margin, threshold, position, limit, temperature):
    """Equation 5 as printed, with lambda = threshold / 0.9, depth by depth."""
    asked = np.clip(0.9 * (threshold / 0.9) + 0.1 * np.exp(-temperature * position / limit), 0, 1)
    return next((depth for depth, value in enumerate(margin, start=1) if value >= asked), len(margin) + 1)


@pytest.mark.parametrize("temperature", [0.5, 4.0, 8.0])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.87, 0.95, 1.0])
def test_decaying_threshold_equals_the_equation(threshold, temperature):
    """The beginning of an answer asked for less; the clip at 1 lost, so that even certainty does not suffice."""
    rng = np.random.default_rng(0)
    margin = rng.beta(4, 0.5, size=(200, 5)).astype(np.float32)
    margin[:20, 2] = 1
    position = rng.integers(0, 32, size=200)
    seen = seen_of(margin=margin, position=position, limit=32)
    policy = DecayingThreshold(threshold=threshold, temperature=temperature)
    expected = [
        slow_calm(row, threshold, at, 32, temperature) for row, at in zip(margin.astype(float), position, strict=True)
    ]
    assert policy.exits(seen).tolist() == expected


def test_decaying_threshold_by_hand():
    """Another unit of position: tokens in place of shares of the longest answer."""
    seen = seen_of(margin=[[0.75], [0.75], [1.0]], position=[0, 4, 0], limit=16)
    # exp(-4 * 4 / 16) = exp(-1): 0.75 - 0.036788 at the fifth of 16 tokens; 0.65 at the first; certain anyway.
    np.testing.assert_allclose(DecayingThreshold().scores(seen), [[0.65], [0.713212], [np.inf]], atol=1e-6)


def test_decaying_threshold_ignores_undefined_margins():
    """A NaN that counts as certain."""
    policy = DecayingThreshold(threshold=0.0)
    assert policy.exits(seen_of(margin=[[NAN, 0.5]])).tolist() == [2]
