"""What a model's blocks can do in a decoder; how it is found out stands in `trial`.

Shapes: L blocks.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from exitbench.decode.cache import SlotCache, StateWrittenError
from exitbench.decode.stack import Calls, Stack
from exitbench.models.adapter import forward_replaced

__all__ = ["Abilities", "StateWrite"]


@dataclass(frozen=True, kw_only=True)
class StateWrite:
    """How the state of one skipped block is written."""

    num_writes: int | None = None
    """Writes after which the block may stop; None: it runs to its end."""
    idle: tuple[torch.nn.Module, ...] = ()
    """Products that no write needs."""

    def write(self, stack: Stack, cache: SlotCache, block: int, calls: Calls, hidden: torch.Tensor) -> None:
        """Write the state of a block as if it had been given these hidden states."""
        if self.num_writes is None:
            stack.block(block, calls, hidden)
            return
        cache.stop_at = cache.num_writes + self.num_writes
        try:
            with _left_out(self.idle):
                stack.block(block, calls, hidden)
        except StateWrittenError:
            pass
        finally:
            cache.stop_at = None


@dataclass(frozen=True, kw_only=True)
class Abilities:
    """What was found."""

    layers: tuple[tuple[int, ...], ...]
    """(L) indices of the cache's layers that each block writes to."""
    chunks: tuple[bool, ...]
    """(L) whether a block may be given several new tokens of a row that has a state."""
    writes: tuple[StateWrite, ...]
    """(L)"""
    separates_rows: bool = True
    """Whether rows may pass blocks without one another."""
    rolls_back: bool = True
    """Whether blocks may be put back to an earlier state."""

    def write_state(self, stack: Stack, cache: SlotCache, block: int, calls: Calls, hidden: torch.Tensor) -> None:
        """Write the state of a skipped block as if it had been given these hidden states."""
        self.writes[block].write(stack, cache, block, calls, hidden)


@contextmanager
def _left_out(modules: Sequence[torch.nn.Module]) -> Iterator[None]:
    """Let linear maps return zeros."""
    with ExitStack() as stack:
        for module in modules:
            width: Any = module.out_features
            stack.enter_context(forward_replaced(module, lambda x, width=width: x.new_zeros(*x.shape[:-1], width)))
        yield
