"""Workloads with a known EES, measured up to a wished-for precision many times over: how often is the interval right?

The model of a workload: every category has a mean share of tokens that are settled half-way, every prompt a share of
its own around that (so that tokens of one prompt depend on each other), and 8 to 32 tokens.

R repetitions, P prompts, B resamples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from exitbench.score.looks import plan_looks
from exitbench.stats.bootstrap import Estimate, draw_weights, ratio, strata
from exitbench.workloads.workload import stratified_order

PROMPT_DEVIATION = 0.12


@dataclass(frozen=True, kw_only=True)
class Peeks:
    """What every look of every repetition would show."""

    num_prompts: list[int]
    """Prompts at each look."""
    half_width: np.ndarray
    """(looks, R)"""
    covers: np.ndarray
    """(looks, R) whether the interval at that look holds the true EES."""

    def all_cover(self) -> float:
        """Share of repetitions in which the intervals of all looks are right: whoever stops, for whatever reason."""
        return float(self.covers.all(axis=0).mean())

    def stopped(self, target: float) -> tuple[float, float]:
        """Share of right intervals where each repetition stops, and mean share of the prompts it uses."""
        last = len(self.num_prompts) - 1
        look = np.where(self.half_width <= target, np.arange(last + 1)[:, None], last).min(axis=0)
        used = np.asarray(self.num_prompts)[look] / self.num_prompts[-1]
        return float(self.covers[look, np.arange(len(look))].mean()), float(used.mean())


def simulate(
    sizes: Sequence[int],
    *,
    repetitions: int,
    draws: int = 1000,
    spread: float = 0.1,
    level: float | None = None,
    within: Callable[[Sequence[str]], Sequence[str]] = strata,
    seed: int = 0,
) -> Peeks:
    """Draw workloads and look at each as often as planned.

    Args:
        sizes: prompts of each category.
        repetitions: R.
        draws: B.
        spread: how far the means of the first and the last category lie from 0.25, the middle one's.
        level: of the interval at every look, in place of the planned levels.
        within: categories to what is resampled within.
        seed: of everything.
    """
    rng = np.random.default_rng(seed)
    categories = [str(number) for number, size in enumerate(sizes) for _ in range(size)]
    order = stratified_order(categories, seed)
    number = np.array([int(categories[index]) for index in order])
    mean = 0.25 + spread * np.linspace(-1, 1, len(sizes)) if len(sizes) > 1 else np.array([0.25])
    truth = 0.5 * np.average(mean, weights=sizes)
    sharpness = mean * (1 - mean) / PROMPT_DEVIATION**2 - 1
    share = rng.beta((mean * sharpness)[number], ((1 - mean) * sharpness)[number], (repetitions, len(number)))
    tokens = rng.integers(8, 33, share.shape)
    saved = 0.5 * rng.binomial(tokens, share)
    planned = plan_looks(len(number))
    low, high = [], []
    for num, planned_level in planned:
        names = [categories[index] for index in order[:num]]
        weights = draw_weights(within(names), draws=draws, rng=rng)
        estimate = Estimate(
            value=ratio(saved[:, :num].sum(axis=1), tokens[:, :num].sum(axis=1)),
            resamples=ratio(weights @ saved[:, :num].T, weights @ tokens[:, :num].T),
            n_tokens=0,
            n_prompts=num,
            level=level or planned_level,
        )
        curve = estimate.curve("depth", range(repetitions))
        low.append(curve.low)
        high.append(curve.high)
    lows, highs = np.array(low, dtype=float), np.array(high, dtype=float)
    return Peeks(
        num_prompts=[num for num, _ in planned],
        half_width=(highs - lows) / 2,
        covers=(lows <= truth) & (truth <= highs),
    )


def worst_coverage(peeks: Peeks, num_targets: int = 9) -> float:
    """The smallest coverage over targets, from those that every first look reaches to those that none does."""
    targets = np.quantile(peeks.half_width, np.linspace(0, 1, num_targets))
    return min(peeks.stopped(target)[0] for target in targets)
