"""How far answers with early exit are from the full model's: no reference, no model, ids against ids.

Greedy answers diverge for good once one token differs, so the share of identical tokens says as much about where the
first difference fell as about how many exits were wrong. Both are given, and the edit distance, which forgives a token
that was put in or left out.

Shapes: P prompts.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from exitbench.stats.bootstrap import Bootstrap, Estimate, Floats, ratio
from exitbench.stats.figure import Figure

__all__ = ["changes", "edit_distance", "first_divergence", "identical_tokens"]

Ids = Sequence[int]


def identical_tokens(full: Ids, early: Ids) -> int:
    """Number of positions at which both answers have the same token."""
    return sum(a == b for a, b in zip(full, early, strict=False))


def first_divergence(full: Ids, early: Ids) -> int | None:
    """Position, from 0, from which the answers differ: by a token, or by an end; None where they are the same."""
    if list(full) == list(early):
        return None
    shared = zip(full, early, strict=False)
    return next((place for place, (a, b) in enumerate(shared) if a != b), min(len(full), len(early)))


def edit_distance(full: Ids, early: Ids) -> int:
    """Tokens to put in, take out or exchange to make one answer the other (Levenshtein)."""
    return int(Levenshtein.distance(list(full), list(early)))


def changes(
    answers: Sequence[tuple[int, Ids, Ids]], bootstrap: Bootstrap, num_prompts: int
) -> dict[str, Figure | str | None]:
    """Figures of all answers together.

    Args:
        answers: (prompt, the full model's ids, those with early exit) of every turn.
        bootstrap: over the P prompts.
        num_prompts: P.

    Returns:
        identical_tokens, share of positions (of the longer answer; where one has ended, they differ);
        identical_answers, share of answers; first_divergence, median position of those that are not; edit_distance,
        over the length of the longer answer.
    """
    positions, same, edits, whole, turns = (np.zeros(num_prompts) for _ in range(5))
    diverged: list[tuple[int, int]] = []
    for prompt, full, early in answers:
        positions[prompt] += max(len(full), len(early))
        same[prompt] += identical_tokens(full, early)
        edits[prompt] += edit_distance(full, early)
        turns[prompt] += 1
        place = first_divergence(full, early)
        if place is None:
            whole[prompt] += 1
        else:
            diverged.append((prompt, place))
    by_answer = bootstrap.estimate(lambda w: ratio(w @ whole, w @ turns), positions)
    return {
        "identical_tokens": bootstrap.mean(same, positions).figure(),
        "identical_answers": by_answer.figure(),
        "edit_distance": bootstrap.mean(edits, positions).figure(),
        "first_divergence": _median(diverged, bootstrap, positions).figure() if diverged else "no answer differs",
    }


def _median(diverged: Sequence[tuple[int, int]], bootstrap: Bootstrap, positions: Floats) -> Estimate:
    """Weighted median of the positions at which answers diverge; of prompts without any there is nothing to weigh."""
    prompts, places = (np.array(column) for column in zip(*sorted(diverged, key=lambda pair: pair[1]), strict=True))

    def statistic(weights: Floats) -> Floats:
        cumulative = weights[:, prompts].cumsum(axis=1)
        total = cumulative[:, -1:]
        middle: NDArray[np.int64] = (cumulative * 2 >= total).argmax(axis=1)
        return np.where(total[:, 0] > 0, places[middle].astype(np.float64), np.nan)

    estimate = bootstrap.estimate(statistic, positions)
    return replace(estimate, n_prompts=len(set(prompts.tolist())))
