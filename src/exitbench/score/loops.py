"""Loops: stretches of an answer that repeat what it has said before.

Greedy decoding of small models falls into repetition, where every block agrees early; that inflates
suitability, so cards print the share of looped tokens and EES without them.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from exitbench.trace.table import Trace

__all__ = ["GRAM", "looped_tokens"]

GRAM = 8
"""Length of the repeated stretch, in tokens."""


def looped_tokens(trace: Trace) -> NDArray[np.bool_]:
    """Mark the tokens that lie in an 8-gram which began earlier in the same answer.

    Only later occurrences count: the first time something is said is no loop. Occurrences may overlap.

    Args:
        trace: rows in order of position within each (sample, turn).

    Returns:
        (N,) True where the row's target token is part of a repetition.
    """
    looped = np.zeros(trace.num_tokens, dtype=np.bool_)
    new_answer = (np.diff(trace.sample_index) != 0) | (np.diff(trace.turn) != 0)
    bounds = [0, *(np.flatnonzero(new_answer) + 1).tolist(), trace.num_tokens]
    for first, end in pairwise(bounds):
        answer = trace.target_id[first:end].tolist()
        seen: set[tuple[int, ...]] = set()
        for start in range(len(answer) - GRAM + 1):
            gram = tuple(answer[start : start + GRAM])
            if gram in seen:
                looped[first + start : first + start + GRAM] = True
            seen.add(gram)
    return looped
