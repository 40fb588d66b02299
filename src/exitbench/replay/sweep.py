"""A policy replayed at every threshold of its grid, in one pass over tokens and depths.

At threshold tau a token has left by a probe when its running maximum of scores up to there reaches tau. So what
leaving earlier changes (a share of work saved, an agreement lost) is added, probe by probe, to all thresholds up to
that maximum: one search and one count a token and probe, whatever the number of thresholds, in memory for one depth.

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
    num_blocks, num_slots = len(values) - 1, len(grid) + 1
    cells = prompts.num_prompts * num_slots
    row_cell = prompts.row_prompt * num_slots
    best = np.full(len(scores), -np.inf)
    reached = np.zeros(len(scores), dtype=np.int64)
    added = np.zeros((cells, values.shape[1]))
    wrong_added = np.zeros(cells)
    for k, (depth, later) in enumerate(zip(depths, np.append(depths, num_blocks)[1:], strict=True)):
        rises = scores[:, k] > best
        best[rises] = scores[rises, k]
        reached[rises] = np.searchsorted(grid, best[rises], side="right")  # thresholds at or below the score
        slot = row_cell + reached
        added += np.bincount(slot, minlength=cells)[:, None] * (values[depth] - values[later])
        differs = np.subtract(agrees[:, later], agrees[:, depth], dtype=np.int8)
        wrong_added += np.bincount(slot, weights=differs, minlength=cells)

    def at_thresholds(slots: Floats) -> Floats:
        # Threshold g collects the slots above g; summing from the strict end keeps its zeros exact.
        by_prompt = slots.reshape(prompts.num_prompts, num_slots, -1)
        return np.cumsum(by_prompt[:, ::-1], axis=1)[:, ::-1][:, 1:]

    tokens = prompts.counts()
    return Totals(
        values=at_thresholds(added) + tokens[:, None, None] * values[-1],
        disagreements=at_thresholds(wrong_added)[..., 0],
        tokens=tokens,
    )
