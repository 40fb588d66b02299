"""Which documents a lens is trained on, in which order, and which it never sees.

Everything is drawn from the seed and from nothing else, so that a resumed run needs no more than the number of steps
done. A tenth of the documents is held out, to tell what was learnt from what was learnt by heart. Where the text is
shorter than the tokens wanted, it is gone through again, in another order.

Non-goals: keeping apart documents that were cut from one text.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from exitbench.errors import LensError

__all__ = ["STEP_TOKENS", "Plan", "make_plan"]

STEP_TOKENS = 256
"""Least tokens of one step: whole documents are taken until there are so many."""
_HELD_OUT_SHARE = 0.1
_LEAST_HELD_OUT = 10
"""Documents, so that their mean has an interval; half of a text that has too few for that."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Documents by their index."""

    held_out: tuple[int, ...]
    steps: tuple[tuple[int, ...], ...]
    """What each step is computed on."""
    tokens: int
    """Of all steps, those seen again counted again."""


def make_plan(lengths: Sequence[int], *, tokens: int, seed: int) -> Plan:
    """Plan a training.

    Args:
        lengths: tokens of each document.
        tokens: to be seen in training, at least.
        seed: of whatever is drawn.

    Raises:
        LensError: a single document, of which none could be held out.
    """
    if len(lengths) < 2:
        raise LensError("the text is one document only, and some have to be held out; give a longer text")
    generator = random.Random(seed)  # noqa: S311 -- same in every version of Python
    order = list(range(len(lengths)))
    generator.shuffle(order)
    num_held_out = min(max(_LEAST_HELD_OUT, round(_HELD_OUT_SHARE * len(order))), len(order) // 2)
    held_out, pool = order[:num_held_out], order[num_held_out:]
    steps: list[tuple[int, ...]] = []
    waiting: list[int] = []
    seen = 0
    while seen < tokens:
        step: list[int] = []
        while sum(lengths[index] for index in step) < STEP_TOKENS:
            if not waiting:
                waiting = list(pool)
                generator.shuffle(waiting)
            step.append(waiting.pop())
        steps.append(tuple(step))
        seen += sum(lengths[index] for index in step)
    return Plan(held_out=tuple(sorted(held_out)), steps=tuple(steps), tokens=seen)
