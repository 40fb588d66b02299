"""How many prompts are enough: a few looks on the way, at intervals that allow for there being several.

Whoever looks at a 95 % interval again and again and stops when it pleases has an interval that misses more often than
in 5 % of cases. So the looks are few and fixed beforehand, and the 5 % are spent over them: with t_k the share of the
prompts that look k is taken after, its interval has level 1 - 0.05 (t_k - t_(k-1)). The chance that any of them misses
is at most the sum of the chances, 5 %, whatever makes one stop at which look. (A linear spending function; see DeMets
and Lan, Statistics in Medicine 13, 1994. Equal shares would be as valid. These leave the early looks, where a bootstrap
of few prompts is too narrow, the least to spend, and the last one, where most runs that need it end up, the most.)

That bound is as good as the intervals are. Percentile intervals of fewer than 30 prompts are too narrow, so there is no
such look, and a category of fewer than 5 has too few to be resampled on its own (`strata`). How often the interval
then covers is simulated in `benchmarks/precision_coverage.py`.

Non-goals: testing a hypothesis, and figures other than EES deciding when to stop.
"""

import math
from collections.abc import Sequence

from exitbench.errors import TraceError
from exitbench.score.assemble import ees
from exitbench.stats.bootstrap import MIN_PROMPTS
from exitbench.trace.precision import Look, Precision
from exitbench.trace.table import Trace

__all__ = ["FIRST_LOOK", "Looks", "plan_looks"]

ALPHA = 0.05
SHARES = (0.125, 0.25, 0.5, 1.0)
FIRST_LOOK = 30
"""Prompts that the first look is taken after at least."""


def plan_looks(num_prompts: int) -> list[tuple[int, float]]:
    """Return after how many prompts each look is taken, and the level of its interval; the last one is after all.

    Args:
        num_prompts: how many there are.
    """
    planned, spent = [], 0.0
    for share in SHARES:
        num = math.ceil(share * num_prompts)
        if num >= FIRST_LOOK or share == 1:
            planned.append((num, 1 - ALPHA * (share - spent)))
            spent = share
    return planned


class Looks:
    """Stops a trace as soon as EES is known to within a half-width.

    Args:
        target: the half-width.
        seed: of the bootstrap, as for `score`.
    """

    def __init__(self, target: float, *, seed: int) -> None:
        self._target = target
        self._seed = seed
        self._planned: list[tuple[int, float]] = []
        self._taken: list[Look] = []

    def plan(self, num_samples: int) -> Sequence[int]:
        """Say how many samples each look is taken after.

        Raises:
            TraceError: fewer than 10 samples, for which there is no interval.
        """
        if num_samples < MIN_PROMPTS:
            raise TraceError(
                f"--precision needs at least {MIN_PROMPTS} prompts for an interval, got {num_samples}; "
                "give more prompts or leave it out"
            )
        self._planned = plan_looks(num_samples)
        return [num for num, _ in self._planned]

    def look(self, trace: Trace) -> Precision:
        """Look at the next of the planned beginnings of a trace."""
        _, level = self._planned[len(self._taken)]
        figure = ees(trace, level=level, seed=self._seed)
        half_width = None if figure.low is None or figure.high is None else (figure.high - figure.low) / 2
        self._taken.append(
            Look(n_samples=len(trace.samples), n_prompts=figure.n_prompts, level=level, half_width=half_width)
        )
        return Precision(
            target=self._target,
            reached=half_width is not None and half_width <= self._target,
            n_available=self._planned[-1][0],
            n_looks=len(self._planned),
            looks=tuple(self._taken),
        )
