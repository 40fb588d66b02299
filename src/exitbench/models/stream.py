"""How the hidden state travels: where a block is given it, where it comes back, and which of its axes are tokens.

Most blocks map a (B, T, D) tensor to one, in the first argument. Others return it in a tuple or a list, take it by
keyword, or keep several streams a token, (B, T, S, D) or (S, B, T, D). All that is found from one observed call, and
here is the one place that knows it. Streams of a token are laid out side by side: the width D of a hidden state is then
S times the model's own.

Shapes: B sequences, T tokens, R = B T rows, D width of all streams of a token.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

__all__ = ["Argument", "Layout", "Port", "arguments", "candidates_in", "candidates_out"]

Argument = int | str


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Axes of the hidden state as blocks see it."""

    before: tuple[int, ...]
    """Sizes of the axes before the sequences."""
    after: tuple[int, ...]
    """Sizes of the axes behind the tokens, which come right after the sequences."""

    @classmethod
    def of(cls, hidden: torch.Tensor, num_tokens: int) -> "Layout | None":
        """Layout of a hidden state of one sequence of `num_tokens` tokens; None if no two axes look like that."""
        sizes = tuple(hidden.shape)
        for axis in range(len(sizes) - 1):
            if sizes[axis : axis + 2] == (1, num_tokens) and len(sizes) > 2:
                return cls(before=sizes[:axis], after=sizes[axis + 2 :])
        return None

    @property
    def width(self) -> int:
        """D."""
        return prod(self.before) * prod(self.after)

    @property
    def _is_plain(self) -> bool:
        """Whether blocks see (B, T, D), as most do."""
        return not self.before and len(self.after) == 1

    def to_rows(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, T, D) from a hidden state as blocks see it."""
        if self._is_plain:
            return hidden
        axis = len(self.before)
        moved = hidden.movedim((axis, axis + 1), (0, 1))
        return moved.reshape(*moved.shape[:2], -1)

    def from_rows(self, hidden_BTD: torch.Tensor) -> torch.Tensor:
        """The inverse of `to_rows`."""
        if self._is_plain:
            return hidden_BTD
        axis = len(self.before)
        apart = hidden_BTD.reshape(*hidden_BTD.shape[:2], *self.before, *self.after)
        return apart.movedim((0, 1), (axis, axis + 1))


@dataclass(frozen=True, kw_only=True)
class Port:
    """Where one block takes the hidden state and where it leaves it."""

    argument: Argument
    """Position or keyword."""
    entry: int | None
    """Index in its output; None if the output is the hidden state itself."""
    num_entries: int
    """Number of entries of the output, 0 if it is the hidden state itself."""
    is_list: bool = False
    """Whether those entries are a list and not a tuple."""

    def taken(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
        """The hidden state that the block was called with."""
        hidden = args[self.argument] if isinstance(self.argument, int) else kwargs[self.argument]
        assert isinstance(hidden, torch.Tensor)
        return hidden

    def given(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], hidden: torch.Tensor
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments of a call with another hidden state."""
        if isinstance(self.argument, int):
            return (*args[: self.argument], hidden, *args[self.argument + 1 :]), kwargs
        return args, {**kwargs, self.argument: hidden}

    def left(self, output: Any) -> torch.Tensor:
        """The hidden state in the block's output."""
        hidden = output if self.entry is None else output[self.entry]
        assert isinstance(hidden, torch.Tensor)
        return hidden

    def replaced(self, output: Any, hidden: torch.Tensor) -> Any:
        """The block's output with another hidden state."""
        if self.entry is None:
            return hidden
        entries = list(output)
        entries[self.entry] = hidden
        return entries if self.is_list else tuple(entries)

    def imitated(self, hidden: torch.Tensor) -> Any:
        """An output of the same form that holds nothing but the hidden state."""
        return self.replaced([None] * self.num_entries, hidden)


def _is_hidden(value: Any, num_tokens: int) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point() and Layout.of(value, num_tokens) is not None


def arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[Argument, Any]:
    """All arguments of a call by position or keyword, in order."""
    return dict(enumerate(args)) | dict(kwargs)


def candidates_in(
    args: tuple[Any, ...], kwargs: dict[str, Any], num_tokens: int
) -> Iterator[tuple[Argument, torch.Tensor]]:
    """Every argument of a block that may be the hidden state of one sequence, in order."""
    named = arguments(args, kwargs).items()
    yield from ((name, value) for name, value in named if _is_hidden(value, num_tokens))


def candidates_out(output: Any, num_tokens: int) -> Iterator[tuple[int | None, torch.Tensor]]:
    """Every part of a block's output that may be the hidden state of one sequence, in order."""
    parts = enumerate(output) if isinstance(output, tuple | list) else [(None, output)]
    yield from ((entry, value) for entry, value in parts if _is_hidden(value, num_tokens))
