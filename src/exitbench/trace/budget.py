"""A budget of memory for what is held beside a model's weights, and what to do when memory runs out all the same."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from exitbench.errors import OutOfMemoryError
from exitbench.sizes import size_text

__all__ = ["Budget", "in_halves"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class Budget:
    """Bytes that may be held at once for one purpose; less once they turned out not to be there.

    Args:
        num_bytes: to begin with.
        purpose: what they are for, in the plural.
        say: told whenever less is asked for.
    """

    def __init__(self, num_bytes: int, purpose: str, say: Callable[[str], None]) -> None:
        self.num_bytes = num_bytes
        self._purpose = purpose
        self._say = say

    def spend(self, job: Callable[[int], Result], *, wanted: int, least: int) -> Result:
        """Call `job` with a number of bytes, and with half of it whenever memory runs out.

        What was too much is not asked for again, unless nothing was little enough: then it did not matter.

        Args:
            job: work that needs no more than it is given.
            wanted: bytes with which it has all it can use.
            least: bytes below which less does not help.

        Raises:
            OutOfMemoryError: memory runs out with `least` bytes.
        """
        amount = asked = min(self.num_bytes, wanted)
        while True:
            try:
                result = job(amount)
            except (RuntimeError, MemoryError) as error:
                _raise_unless_halving_helps(error, amount >= 2 * least)
            else:
                if amount < asked:
                    self.num_bytes = amount
                return result
            amount //= 2
            self._say(f"out of memory: going on with {size_text(amount)} for {self._purpose}")


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
