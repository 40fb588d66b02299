"""Tokens whose confidence says how often they are wrong, and what is needed to replay them."""

from collections.abc import Callable

import numpy as np
import pytest

from exitbench.stats.bootstrap import Bootstrap, Prompts, draw_weights
from exitbench.stats.material import Material


def noisy_tokens(rng: np.random.Generator, num_rows: int, num_blocks: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Top-1 ids and probabilities (N, L + 1): a prediction is wrong with probability 1 - (its probability)."""
    final = np.zeros((num_rows, 1), dtype=np.int32)
    prob = rng.beta(2.0, 0.15, size=(num_rows, num_blocks))
    wrong = rng.random((num_rows, num_blocks)) > prob
    return np.concatenate([wrong.astype(np.int32), final], axis=1), np.concatenate([prob, final + 1], axis=1)


def build_material(trace, *, draws: int = 60, seed: int = 0) -> Material:
    """A trace with resamples of its prompts."""
    prompts = Prompts.of(trace)
    weights = draw_weights(prompts.categories, draws=draws, rng=np.random.default_rng(seed))
    return Material(trace=trace, prompts=prompts, bootstrap=Bootstrap(weights=weights))


@pytest.fixture(scope="session")
def make_material() -> Callable[..., Material]:
    """The builder of material, see `build_material`."""
    return build_material


@pytest.fixture(scope="session")
def make_noisy() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """The builder of noisy tokens, see `noisy_tokens`."""
    return noisy_tokens
