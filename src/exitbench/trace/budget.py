"""A budget of memory for what is held beside a model's weights, and what to do when memory runs out all the same."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from exitbench.errors import OutOfMemoryError
from exitbench.sizes import size_text

__all__ = ["Budget", "in_halves"]

_LEAST = 2**20

Item = TypeVar("Item")
Result = TypeVar("Result")


class Budget:
    """Bytes that may be held at once; half of that whenever they turn out not to be there.

    Args:
        num_bytes: to begin with.
        say: told whenever the budget is halved.
    """

    def __init__(self, num_bytes: int, say: Callable[[str], None]) -> None:
        self.num_bytes = num_bytes
        self._say = say

    def spend(self, job: Callable[[int], Result]) -> Result:
        """Call `job` with the budget, and again with half of it whenever memory runs out.

        Raises:
            OutOfMemoryError: it runs out with hardly anything asked for.
        """
        while True:
            try:
                return job(self.num_bytes)
            except (RuntimeError, MemoryError) as error:
                _raise_unless_halving_helps(error, self.num_bytes >= 2 * _LEAST)
            self.num_bytes //= 2
            self._say(f"out of memory: going on with {size_text(self.num_bytes)} for logits and hidden states")


def in_halves(
    job: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], say: Callable[[str], None]
) -> list[Result]:
    """What `job` makes of all items, or of one half and then the other where memory runs out.

    Raises:
        OutOfMemoryError: it runs out with one item.
    """
    try:
        return job(items)
    except (RuntimeError, MemoryError) as error:
        _raise_unless_halving_helps(error, len(items) > 1)
    middle = len(items) // 2
    say(f"out of memory: going on with batches of {middle} in place of {len(items)}")
    return in_halves(job, items[:middle], say) + in_halves(job, items[middle:], say)


def _raise_unless_halving_helps(error: Exception, can_halve: bool) -> None:
    """Let pass what running out of memory raises, as long as less can be asked for."""
    messages = ("can't allocate memory", "not enough memory")  # torch's, of main memory
    if not isinstance(error, torch.OutOfMemoryError | MemoryError) and not any(m in str(error) for m in messages):
        raise error
    if not can_halve:
        raise OutOfMemoryError(
            "out of memory with hardly anything asked for beside the weights and one pass; "
            "use shorter prompts, a smaller --dtype, or --device auto"
        ) from error
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
