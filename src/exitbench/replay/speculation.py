"""The lossless projection: what self-speculation would gain, replayed on the runs of agreement in a trace.

A model may draft with its own first d blocks and the readout, k tokens in a row, and then verify them with the other
blocks in one chunk: what it says stays exactly what it would have said. A round accepts the run of drafts that agree,
at most k, and yields one token more. For that one the last draft goes through the first d blocks as well, and then all
k + 1 tokens through the others. With C_d the share of the blocks' cost up to d, h one readout in the same unit, and v
the cost of a chunk of k + 1 tokens relative to that of one token, a round costs

    k (C_d + h) + C_d + v (1 - C_d) + h,

and a token without speculation 1 + h. (So drafts by nearly all blocks gain nothing, as they must not: without the C_d
in the middle, k + 1 tokens of the whole model would seem to cost k.) Agreement comes in runs, so the acceptance of a
whole draft is no power of the share of tokens that agree: the rounds of every answer are replayed one after the other.

The best (d, k) is chosen on four folds of the prompts and measured on the fifth, as thresholds are; where no draft pays
there, none is made, and the speedup is exactly 1.

Shapes: S answers (on text, documents), T tokens of the longest, D draft depths, P prompts, M draft lengths.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exitbench.replay.folds import NUM_FOLDS, Folds
from exitbench.stats.bootstrap import Estimate, ratio
from exitbench.stats.material import Material
from exitbench.trace.table import Trace

__all__ = ["DRAFT_LENGTHS", "Projection", "count_rounds", "project"]

DRAFT_LENGTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12)

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Projection:
    """The projected speedup, and by what drafts."""

    speedup: Estimate
    """Cost of plain decoding over that of speculation."""
    drafts: tuple[tuple[int, int] | None, ...]
    """(depth, length) chosen for each fold; None where no draft pays."""


def count_rounds(trace: Trace, agrees: NDArray[np.bool_], length: int) -> NDArray[np.int64]:
    """Count the rounds in which every answer is written with drafts of a given length.

    Args:
        trace: whose rows are the tokens.
        agrees: (N, D) whether each draft depth says what the full model says.
        length: k, tokens a draft.

    Returns:
        (N, D); the rounds of an answer stand at its first token, 0 at the others.
    """
    starts = np.flatnonzero(trace.answer_position == 0)
    sizes = np.diff(starts, append=trace.num_tokens)
    longest, num_depths = int(sizes.max(initial=0)), agrees.shape[1]
    run = np.zeros((len(starts), num_depths), dtype=np.int64)
    # Rounds still needed from a position on; behind the end of an answer none.
    ahead = np.zeros((longest + length + 1, len(starts), num_depths), dtype=np.int64)
    for position in range(longest - 1, -1, -1):
        inside = position < sizes
        here = agrees[np.minimum(starts + position, trace.num_tokens - 1)] & inside[:, None]
        run = np.where(here, run + 1, 0)
        accepted = np.minimum(run, length)[None]
        after = np.take_along_axis(ahead[position + 1 : position + length + 2], accepted, axis=0)[0]
        ahead[position] = np.where(inside[:, None], after + 1, 0)
    rounds = np.zeros(agrees.shape, dtype=np.int64)
    rounds[starts] = ahead[0]
    return rounds


def project(
    material: Material,
    folds: Folds,
    *,
    up_to: Floats,
    readout: float,
    chunk_factor: Callable[[int], float] = lambda tokens: 1.0,
    lengths: Sequence[int] = DRAFT_LENGTHS,
) -> Projection:
    """Project the speedup of self-speculation at the best draft depth and length.

    Args:
        material: of a trace with signals.
        folds: of its prompts.
        up_to: (L + 1,) C_d, from 0 to 1.
        readout: h, in the unit of `up_to`.
        chunk_factor: v, cost of a chunk of so many tokens relative to one; 1 where only reading weights counts.
        lengths: draft lengths to choose from.
    """
    trace, prompts = material.trace, material.prompts
    depths = np.arange(1, trace.num_blocks)
    tokens = prompts.counts()
    plain = (1 + readout) * tokens
    drafting = np.empty((len(tokens), len(depths), len(lengths)))
    for m, length in enumerate(lengths):
        of_drafts = (length + 1) * up_to[depths] + length * readout
        of_check = chunk_factor(length + 1) * (1 - up_to[depths]) + readout
        rounds = prompts.sums(count_rounds(trace, material.agrees[:, depths], length))
        drafting[..., m] = rounds * (of_drafts + of_check)
    cost = plain.copy()
    drafts: list[tuple[int, int] | None] = []
    for fold in range(NUM_FOLDS):
        held_out = folds.fold == fold
        totals = drafting[~held_out].sum(axis=0)
        if totals.size == 0 or totals.min() >= plain[~held_out].sum():
            drafts.append(None)
        else:
            d, m = divmod(int(np.argmin(totals)), len(lengths))
            cost[held_out] = drafting[held_out, d, m]
            drafts.append((int(depths[d]), lengths[m]))
    speedup = material.bootstrap.estimate(lambda weights: ratio(weights @ plain, weights @ cost), tokens)
    return Projection(speedup=speedup, drafts=tuple(drafts))
