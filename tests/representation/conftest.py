"""A proved toy model, and sequences for it."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from exitbench.models.load import ProvedModel, prove
from exitbench.models.toy import toy_model
from exitbench.trace.record import Stretch


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def proved() -> ProvedModel:
    """The toy Llama of 3 blocks."""
    return prove("toy", toy_model(num_blocks=3))


@pytest.fixture(scope="session")
def make_stretches() -> Callable[..., list[Stretch]]:
    """Builds sequences of random tokens; see `build`."""

    def build(counts: Sequence[int], *, turns: int = 1, first_row: int = 0, seed: int = 0) -> list[Stretch]:
        """One document of each of the numbers of counted tokens, in two categories; so many a turn."""
        rng = np.random.default_rng(seed)
        return [
            Stretch(
                ids=rng.integers(3, 259, first_row + count + 1).tolist(),
                first_row=first_row,
                turn=turn,
                sample=sample,
                category=("a", "b")[sample % 2],
            )
            for sample, count in enumerate(counts)
            for turn in range(turns)
        ]

    return build
