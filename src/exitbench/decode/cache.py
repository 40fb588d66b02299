"""The state of a decoder whose blocks have not all seen the same tokens, nor the same rows.

transformers' own dynamic cache keeps the state; four things are added here.

- **Slots.** Masks and positions are made by the model's own code, which asks the cache how much it has seen and is
  answered by its first layers. Where tokens wait in front of deeper blocks that is the wrong answer for those; so the
  cache says how many slots lie before the tokens of the pass that is being made, whatever its layers hold.
- **Rows.** The state of a block is that of the rows that pass it together. Rows are parked one by one when others pass
  it without them, and put together again; taking apart makes views, putting together copies.
- **Marks.** The state of a block can be put back to what it was.
- **Writes.** They are counted, so that a block that is run for its state alone can be stopped after the last one.

Nothing here knows an architecture: a layer's state is whatever tensors its attributes hold, rows first.

Shapes: R rows.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

__all__ = ["LayerState", "RowStates", "SlotCache", "StateWrittenError", "same_state", "state_of"]

LayerState = dict[str, Any]
"""Attributes of a cache layer, dictionaries copied."""

_GROWN_BY_COPY = (DynamicLayer, DynamicSlidingWindowLayer)
"""Layers that never write into a tensor they hold; to keep a reference is to keep the values."""


class StateWrittenError(Exception):
    """All that a block writes to its state has been written; what else it would compute is not needed."""


class SlotCache(DynamicCache):
    """A dynamic cache that is told how many slots lie before the tokens of a pass."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config=config)
        self.slots = 0
        """Slots before the pass that is being made."""
        self.num_writes = 0
        """Times that a layer was written to."""
        self.stop_at: int | None = None
        """Number of writes after which `StateWrittenError` ends whatever is running; None: never."""

    def _written(self) -> None:
        self.num_writes += 1
        if self.num_writes == self.stop_at:
            raise StateWrittenError

    def update(self, *args: Any, **kwargs: Any) -> Any:
        """Write keys and values, and count it."""
        held = super().update(*args, **kwargs)
        self._written()
        return held

    def update_conv_state(self, *args: Any, **kwargs: Any) -> Any:
        """Write what a convolution needs, and count it."""
        held = super().update_conv_state(*args, **kwargs)
        self._written()
        return held

    def update_recurrent_state(self, *args: Any, **kwargs: Any) -> Any:
        """Write a recurrent state, and count it."""
        held = super().update_recurrent_state(*args, **kwargs)
        self._written()
        return held

    def update_indexer(self, *args: Any, **kwargs: Any) -> Any:
        """Write an indexer's keys, and count it."""
        held = super().update_indexer(*args, **kwargs)
        self._written()
        return held

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Slots seen before the tokens of the pass."""
        return self.slots

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """The same."""
        return self.slots

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """Keys that a layer will attend to, and the slot of the first of them."""
        layer = self.layers[layer_idx] if layer_idx < len(self.layers) else None
        window = getattr(layer, "sliding_window", None) if getattr(layer, "is_sliding", False) else None
        first = 0 if window is None else max(self.slots - window + 1, 0)
        return self.slots - first + query_length, first

    def has_previous_state(self, layer_idx: int | None = None, state_idx: int | None = None) -> bool:
        """Whether there are slots before the pass; of one layer, whether that has seen any."""
        if layer_idx is None:
            return self.slots > 0
        return bool(super().has_previous_state(layer_idx, state_idx))


def state_of(layer: Any) -> LayerState:
    """A layer's state as it is; tensors that it will write into are copied."""
    is_safe = type(layer) in _GROWN_BY_COPY

    def kept(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value if is_safe else value.clone()
        return {key: kept(part) for key, part in value.items()} if isinstance(value, dict) else value

    return {name: kept(value) for name, value in vars(layer).items()}


def row_of(state: LayerState, row: int, num_rows: int) -> LayerState:
    """The state of one row of R, as views."""

    def picked(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value[row : row + 1] if value.ndim and len(value) == num_rows else value
        return {key: picked(part) for key, part in value.items()} if isinstance(value, dict) else value

    return {name: picked(value) for name, value in state.items()}


def rows_joined(states: Sequence[LayerState]) -> LayerState:
    """The state of several rows from that of each."""

    def joined(parts: list[Any]) -> Any:
        first = parts[0]
        if isinstance(first, torch.Tensor):
            return torch.cat(parts) if first.ndim and len(first) == 1 else first
        return {key: joined([part[key] for part in parts]) for key in first} if isinstance(first, dict) else first

    return {name: joined([state[name] for state in states]) for name in states[0]}


def same_state(a: Any, b: Any) -> bool:
    """Whether two states, or parts of them, hold the same, to the last bit."""
    if a is b:
        return True
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_state(a[key], b[key]) for key in a)
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.shape == b.shape and bool(torch.equal(a, b))
    return bool(a == b)


class RowStates:
    """Which rows' state each block holds, and the state of the others.

    Args:
        cache: whose layers hold it.
        layers: of each block, the indices of its layers in the cache.
    """

    def __init__(self, cache: SlotCache, layers: Sequence[tuple[int, ...]]) -> None:
        self._cache, self._layers = cache, layers
        self._resident: list[tuple[int, ...]] = [()] * len(layers)
        self._parked: list[dict[int, list[LayerState]]] = [{} for _ in layers]
        self._ended: set[int] = set()

    def use(self, block: int, rows: tuple[int, ...]) -> None:
        """Let a block hold the state of these rows, in this order."""
        resident = self._resident[block]
        if resident == rows:
            return
        layers, parked = [self._cache.layers[layer] for layer in self._layers[block]], self._parked[block]
        states = [vars(layer) for layer in layers]
        for place, row in enumerate(resident):
            if row in self._ended:
                continue
            parked[row] = [row_of(state, place, len(resident)) for state in states]
        if all(row in parked for row in rows):  # otherwise they are new, and there is nothing to hold
            for index, layer in enumerate(layers):
                vars(layer).update(rows_joined([parked[row][index] for row in rows]))
            for row in rows:
                del parked[row]
        self._resident[block] = rows

    def drop(self, row: int) -> None:
        """Forget a row that has ended; where it is resident its state goes with the next change."""
        self._ended.add(row)
        for parked in self._parked:
            parked.pop(row, None)

    def same(self, block: int, mark: list[LayerState]) -> bool:
        """Whether the state that a block holds is that of a mark, to the last bit."""
        return all(
            same_state(vars(self._cache.layers[layer]), state)
            for layer, state in zip(self._layers[block], mark, strict=True)
        )

    def is_croppable(self, block: int) -> bool:
        """Whether a block's state is one entry a slot, all of them kept."""
        return all(type(self._cache.layers[layer]) is DynamicLayer for layer in self._layers[block])

    def crop(self, block: int, slots: int) -> None:
        """Forget what a croppable block has seen behind so many slots, if it has seen more."""
        for layer in self._layers[block]:
            held: Any = self._cache.layers[layer]
            held.crop(min(0, slots - held.get_seq_length()))

    def mark(self, block: int) -> list[LayerState]:
        """The state that a block holds, to put back."""
        return [state_of(self._cache.layers[layer]) for layer in self._layers[block]]

    def restore(self, block: int, mark: list[LayerState]) -> None:
        """Put a block's state back; a mark serves once."""
        for layer, state in zip(self._layers[block], mark, strict=True):
            vars(self._cache.layers[layer]).update(state)
