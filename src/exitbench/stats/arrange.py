"""Permutation tests within strata: what the effect could have been, had models been labelled otherwise.

Labels (a group, a place on an axis) are exchanged among the models of one stratum only. If no label matters, every such
arrangement was equally likely; the p-value is twice the smaller share of arrangements with an effect as far out, as
`scipy.stats.permutation_test` has it, which knows no strata. All arrangements are looked at where there are at most
50 000, otherwise a seeded sample, the observed one counted among them (Phipson and Smyth, Statistical Applications in
Genetics and Molecular Biology 9, 2010). Pairs are strata of two: their arrangements are the sign flips of differences.

Letters: N models, A arrangements.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, product

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_ARRANGEMENTS", "Permuted", "num_arrangements", "permutation_p"]

MOST_ARRANGEMENTS = 50_000
SAMPLE = 9_999
_CHUNK = 4_096

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Permuted:
    """A p-value from arrangements."""

    p: float
    floor: float
    """The smallest that so many arrangements can give."""
    exact: bool


def num_arrangements(labels: Floats, strata: Ints) -> int:
    """Count the distinct ways to give out `labels` (N,) within `strata` (N,)."""
    count = 1
    for stratum in np.unique(strata):
        repeats = Counter(labels[strata == stratum].tolist())
        count *= math.factorial(repeats.total()) // math.prod(map(math.factorial, repeats.values()))
    return count


def permutation_p(
    labels: Floats, strata: Ints, effect: Callable[[Floats], Floats], *, rounding: float, seed: int = 0
) -> Permuted:
    """Test whether labels matter.

    Args:
        labels: (N,) numbers; models of one label are alike.
        strata: (N,) within which labels are exchanged.
        effect: labels (A, N) -> (A,) their effects.
        rounding: what effects that are the same may differ by, being summed in another order.
        seed: of the sample, where there are too many arrangements.
    """
    count = num_arrangements(labels, strata)
    exact = count <= MOST_ARRANGEMENTS
    observed = effect(labels[None])[0]
    chunks = _every(labels, strata) if exact else _some(labels, strata, np.random.default_rng(seed))
    above = below = total = 0
    for chunk in chunks:
        effects = effect(chunk)
        above += int(np.sum(effects >= observed - rounding))
        below += int(np.sum(effects <= observed + rounding))
        total += len(chunk)
    assert total == (count if exact else SAMPLE + 1)
    return Permuted(p=min(1.0, 2 * min(above, below) / total), floor=min(1.0, 2 / total), exact=exact)


def _every(labels: Floats, strata: Ints) -> Iterator[Floats]:
    """All arrangements, some (A, N) at a time."""
    places = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    order = np.argsort(np.concatenate(places))
    every = product(*([*_orders(sorted(labels[place].tolist()))] for place in places))
    while chunk := list(islice(every, _CHUNK)):
        yield np.array([[label for part in parts for label in part] for parts in chunk])[:, order]


def _orders(ascending: list[float]) -> Iterator[tuple[float, ...]]:
    """The distinct orders of a list (Knuth, The Art of Computer Programming 4A, algorithm 7.2.1.2 L)."""
    order = ascending
    while True:
        yield tuple(order)
        rise = next((i for i in range(len(order) - 2, -1, -1) if order[i] < order[i + 1]), None)
        if rise is None:
            return
        swap = next(i for i in range(len(order) - 1, rise, -1) if order[rise] < order[i])
        order[rise], order[swap] = order[swap], order[rise]
        order[rise + 1 :] = order[:rise:-1]


def _some(labels: Floats, strata: Ints, rng: np.random.Generator) -> Iterator[Floats]:
    """The arrangement observed, and a sample of all."""
    yield labels[None]
    for start in range(0, SAMPLE, _CHUNK):
        chunk = np.tile(labels, (min(_CHUNK, SAMPLE - start), 1))
        for stratum in np.unique(strata):
            place = np.flatnonzero(strata == stratum)
            chunk[:, place] = rng.permuted(chunk[:, place], axis=1)
        yield chunk
