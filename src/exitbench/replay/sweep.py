"""A policy replayed at every threshold of its grid, in one pass over tokens and depths.

A token leaves, at threshold tau, at the first probe at which its running maximum of scores reaches tau. So a probe that
raises the maximum from a to b is where it leaves at just the thresholds above a and up to b. One search and two counts
for each such rise do for all thresholds, in memory for one depth; probes that raise nothing cost one comparison.

Shapes: N tokens, K probe depths, L blocks, P prompts, G thresholds, C kinds of cost or saving.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exitbench.stats.bootstrap import Prompts

__all__ = ["Totals", "sweep"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Totals:
    """A policy's outcome per prompt and threshold, summed over tokens."""

    values: Floats
    """(P, G, C) of the values given by exit depth."""
    disagreements: Floats
    """(P, G) tokens whose prediction at the exit is not the full model's."""
    tokens: Floats
    """(P,)"""

    def of(self, prompts: NDArray[Any]) -> "Totals":
        """Those of some prompts, by mask or index."""
        return Totals(
            values=self.values[prompts], disagreements=self.disagreements[prompts], tokens=self.tokens[prompts]
        )


def sweep(
    scores: NDArray[np.floating[Any]],
    depths: NDArray[np.int64],
    agrees: NDArray[np.bool_],
    values: Floats,
    prompts: Prompts,
    grid: Floats,
) -> Totals:
    """Replay a policy at every threshold.

    Args:
        scores: (N, K) its scores; NaN where a token cannot leave.
        depths: (K,) its probe depths, rising, below L.
        agrees: (N, L + 1) whether the top-1 at each depth is the full model's.
        values: (L + 1, C) what a token that leaves at each depth counts.
        prompts: how the N rows fall into prompts.
        grid: (G,) thresholds, rising.
    """
    num_slots = len(grid) + 1
    num_cells = prompts.num_prompts * num_slots
    best = np.full(len(scores), -np.inf, dtype=scores.dtype)
    first_cell = prompts.row_prompt * num_slots
    cell = first_cell.copy()
    gained = np.zeros((num_cells, values.shape[1]))
    wrong = np.zeros(num_cells, dtype=np.int64)

    def left(after: NDArray[np.int64], before: NDArray[np.int64]) -> NDArray[np.int64]:
        # Summed from the strict end, this is 1 a token at the thresholds between its cells, and 0 elsewhere.
        return np.bincount(after, minlength=num_cells) - np.bincount(before, minlength=num_cells)

    for k, depth in enumerate(depths):
        rows = np.flatnonzero(scores[:, k] > best)
        best[rows] = rises = scores[rows, k]
        before, after = cell[rows], first_cell[rows] + np.searchsorted(grid, rises, side="right")
        cell[rows] = after
        differs = ~agrees[rows, depth]
        gained += left(after, before)[:, None] * (values[depth] - values[-1])
        wrong += left(after[differs], before[differs])

    def at_thresholds(cells: NDArray[Any]) -> NDArray[Any]:
        # Threshold g collects the cells above g; summing from the strict end keeps its zeros exact.
        by_prompt = cells.reshape(prompts.num_prompts, num_slots, -1)
        return np.cumsum(by_prompt[:, ::-1], axis=1)[:, ::-1][:, 1:]

    tokens = prompts.counts()
    return Totals(
        values=at_thresholds(gained) + tokens[:, None, None] * values[-1],
        disagreements=at_thresholds(wrong)[..., 0].astype(np.float64),
        tokens=tokens,
    )
