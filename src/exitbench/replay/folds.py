"""Folds of prompts: which a threshold is chosen on, and which it is judged on.

Prompts are dealt into five folds within category. For each fold a threshold is chosen on the other four; where
something has to be fitted first, on three of them, and the fourth is for fitting.

Shapes: P prompts, B resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exitbench.stats.bootstrap import Prompts, draw_weights

__all__ = ["NUM_FOLDS", "Folds", "Part", "deal_folds"]

NUM_FOLDS = 5

Floats = NDArray[np.float64]


def deal_folds(categories: Sequence[str], rng: np.random.Generator) -> NDArray[np.int64]:
    """Deal prompts into folds within category, carrying on where the last category stopped.

    Args:
        categories: (P,) category of each prompt.
        rng: source of randomness.

    Returns:
        (P,) fold of each prompt, 0..NUM_FOLDS-1; sizes differ by at most one, overall and within a category.
    """
    labels = np.asarray(categories)
    groups = [rng.permutation(np.flatnonzero(labels == name)) for name in dict.fromkeys(categories)]
    folds = np.empty(len(labels), dtype=np.int64)
    folds[np.concatenate(groups)] = np.arange(len(labels)) % NUM_FOLDS
    return folds


@dataclass(frozen=True, kw_only=True)
class Part:
    """The prompts that one fold's threshold is chosen with; masks (P,)."""

    held_out: NDArray[np.bool_]
    fit: NDArray[np.bool_]
    """Those that trained parts and learned probe depths may see; none where nothing is learned."""
    calibrate: NDArray[np.bool_]
    weights: Floats
    """(B, number of calibration prompts) resamples of them."""


class Folds:
    """The folds of a trace's prompts and the resamples of each calibration, dealt once and shared by all policies.

    Args:
        prompts: at least `NUM_FOLDS` of them.
        draws: B.
        seed: of the deal and of the resamples.
    """

    def __init__(self, prompts: Prompts, *, draws: int, seed: np.random.SeedSequence) -> None:
        assert prompts.num_prompts >= NUM_FOLDS, f"{prompts.num_prompts} prompts cannot be dealt into {NUM_FOLDS} folds"
        rng = np.random.default_rng(seed)
        self._prompts, self._draws, self._rng = prompts, draws, rng
        self.fold = deal_folds(prompts.categories, rng)
        """(P,)"""
        nothing = np.zeros(len(self.fold), dtype=np.bool_)
        self._plain = [self._part(fold, nothing) for fold in range(NUM_FOLDS)]
        self._learning = [self._part(fold, self.fold == (fold + 1) % NUM_FOLDS) for fold in range(NUM_FOLDS)]

    def parts(self, *, learns: bool) -> list[Part]:
        """One part a fold.

        Args:
            learns: whether something is to be fitted before the threshold is chosen.
        """
        return self._learning if learns else self._plain

    def whole(self, *, learns: bool) -> Part:
        """All prompts as calibration prompts, but for one fold that goes to fitting where something is to be fitted."""
        return self._part(NUM_FOLDS, (self.fold == 0) & learns)

    def _part(self, fold: int, fit: NDArray[np.bool_]) -> Part:
        held_out = self.fold == fold
        calibrate = ~(held_out | fit)
        names = [self._prompts.categories[index] for index in np.flatnonzero(calibrate)]
        weights = draw_weights(names, draws=self._draws, rng=self._rng)
        return Part(held_out=held_out, fit=fit, calibrate=calibrate, weights=weights)
