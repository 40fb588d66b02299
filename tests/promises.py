"""Workloads whose risks are known, calibrated many times over: how often is a promise kept?

A workload is a large, finite population of prompts, from which calibration prompts are drawn with replacement. So the
true risk of every threshold is a plain mean, whatever its tokens have to do with each other.

- `typical`: prompts of differing difficulty, the harder ones longer, in which disagreement comes in runs; from one
  threshold to the next some tokens change their mind back, and every third threshold is better than the one before it.
- `edge`: at every threshold that exits at all, a little more than a share eps of the prompts goes wrong, independently.
  Every choice breaks the promise. Nothing is closer to what the procedures just allow.

Threshold 0 never exits. M prompts in a population, G thresholds, R repetitions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.stats import norm

from exitbench.stats.certify import bonferroni, conformal, fixed_sequence, hoeffding_bentkus
from exitbench.stats.risk import losses_of

NUM_PROMPTS = 20_000
NUM_THRESHOLDS = 40
MAX_TOKENS = 40
SAVINGS = np.linspace(0, 0.5, NUM_THRESHOLDS)
"""(G,) what the thresholds save, made up: equal steps."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one procedure chose in every repetition."""

    index: np.ndarray
    """(R,) chosen threshold, -1 for none."""
    risk: np.ndarray
    """(R,) its true risk; 0 for none, as that means never to exit."""

    @property
    def saved(self) -> float:
        """Mean of what the chosen thresholds save; nothing where there is none."""
        return float(SAVINGS[np.maximum(self.index, 0)].mean())

    def kept(self, eps: float) -> int:
        """Repetitions whose true risk is at most eps."""
        return int((self.risk <= eps).sum())


@cache
def typical(risk: str) -> np.ndarray:
    """(M, G) losses."""
    rng = np.random.default_rng(11)
    difficulty = rng.normal(size=NUM_PROMPTS)
    noise = rng.normal(size=(NUM_PROMPTS, MAX_TOKENS))
    for step in range(1, MAX_TOKENS):
        noise[:, step] = 0.7 * noise[:, step - 1] + math.sqrt(1 - 0.7**2) * noise[:, step]
    hardness = norm.sf(math.sqrt(0.5) * difficulty[:, None] + math.sqrt(0.5) * noise)  # uniform; small is hard
    second = rng.random(hardness.shape)
    tokens = np.clip(np.rint(20 + 6 * difficulty + 5 * rng.normal(size=NUM_PROMPTS)), 4, MAX_TOKENS)
    exists = np.arange(MAX_TOKENS) < tokens[:, None]
    rates = np.geomspace(2e-4, 0.3, NUM_THRESHOLDS)
    rates[3::3] *= 0.8
    rates[0] = 0
    disagreements = np.empty((NUM_PROMPTS, NUM_THRESHOLDS))
    for index, rate in enumerate(rates):
        changed_back = (second - index / NUM_THRESHOLDS) % 1 < 0.3 * rate
        disagreements[:, index] = (exists & ((hardness < 0.7 * rate) | changed_back)).sum(axis=1)
    metric = (rng.random(NUM_PROMPTS) < norm.cdf(0.3 - difficulty)).astype(float)
    return losses_of(risk, disagreements, tokens=tokens, metric=metric)


@cache
def edge(eps: float) -> np.ndarray:
    """(M, G) losses of 0 or 1."""
    rng = np.random.default_rng(12)
    losses = np.zeros((NUM_PROMPTS, NUM_THRESHOLDS))
    losses[: round(eps * NUM_PROMPTS) + 1, 1:] = 1
    return rng.permuted(losses, axis=0)


def simulate(
    losses: np.ndarray, *, num_prompts: int, eps: float, delta: float, repetitions: int, seed: int = 0
) -> dict[str, Outcome]:
    """Calibrate by every procedure, and naively, on the same draws of `num_prompts` from `losses` (M, G)."""
    rng = np.random.default_rng(seed)
    mean_loss = np.empty((repetitions, losses.shape[1]))
    by_conformal = []
    for repetition in range(repetitions):
        drawn = losses[rng.integers(len(losses), size=num_prompts)]
        mean_loss[repetition] = drawn.mean(axis=0)
        by_conformal.append(conformal(drawn, eps))
    p_values = hoeffding_bentkus(mean_loss, n_prompts=num_prompts, eps=eps)
    chosen = {
        "fixed-sequence": [fixed_sequence(row, delta) for row in p_values],
        "bonferroni": [max(bonferroni(row, delta), default=None) for row in p_values],
        "conformal": by_conformal,
        "naive": [max(np.flatnonzero(row <= eps), default=None) for row in mean_loss],
    }
    true_risk = losses.mean(axis=0)
    return {name: _outcome(indices, true_risk) for name, indices in chosen.items()}


def _outcome(indices: Sequence[int | None], true_risk: np.ndarray) -> Outcome:
    index = np.array([-1 if chosen is None else chosen for chosen in indices])
    return Outcome(index=index, risk=np.where(index < 0, 0.0, true_risk[index]))
