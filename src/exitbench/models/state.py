"""Watch what blocks write to the state that later tokens need: keys and values, recurrent and convolution states.

No cache class is named. Whatever a block is given that holds tensors (a cache, a list of states), and what its modules
keep, is compared before and after the call: tensors that grew are state that grows with the context, elements that
changed in place are state of a fixed size. Where blocks return their state and the model keeps it, what a block is
given for one token is compared with what it is given for the next.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from transformers import PreTrainedConfig

__all__ = ["Snapshot", "StateChange", "held_tensors", "snapshot"]

_MAX_NESTING = 6
Snapshot = dict[tuple[Any, ...], torch.Tensor]
"""Copies of tensors, by the way that leads to them."""


@dataclass(frozen=True, kw_only=True)
class StateChange:
    """State that differs between two snapshots."""

    grown_bytes: int = 0
    """Bytes by which tensors grew."""
    changed_bytes: int = 0
    """Bytes of what changed in tensors that kept their shape."""
    changed_elements: int = 0

    @classmethod
    def between(cls, before: Snapshot, after: Snapshot) -> "StateChange":
        """The change from one snapshot to another; what is in one of them only is no state but passes through."""
        grown = changed = size = 0
        for way in before.keys() & after.keys():
            old, new = before[way], after[way]
            if old.shape == new.shape:
                elements = _box(old != new)
                changed += elements
                size += elements * new.element_size()
            else:
                grown += new.nbytes - old.nbytes
        return cls(grown_bytes=grown, changed_bytes=size, changed_elements=changed)


def _box(differs: torch.Tensor) -> int:
    """Elements of the box in which the differences lie, rounded up: single elements may change to what they were."""
    touched = [len(set(indices)) for indices in differs.nonzero().T.tolist()]
    # An index more or less is chance; one block's share of a tensor of all blocks is not.
    return prod(size if 2 * n > size else n for n, size in zip(touched, differs.shape, strict=True))


def snapshot(*holders: Any) -> Snapshot:
    """Copies of all floating tensors that are held by `holders`: containers, caches, modules."""
    return {way: tensor.clone() for way, tensor in held_tensors(holders)}


def held_tensors(holder: Any) -> Iterator[tuple[tuple[Any, ...], torch.Tensor]]:
    """(way, tensor) of every floating tensor that `holder` leads to; the tensors themselves, no copies."""
    return _tensors(holder, (), set())


def _tensors(value: Any, way: tuple[Any, ...], seen: set[int]) -> Iterator[tuple[tuple[Any, ...], torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        if value.is_floating_point():
            yield way, value
        return
    if len(way) > _MAX_NESTING or id(value) in seen or isinstance(value, PreTrainedConfig | type):
        return
    seen.add(id(value))
    if isinstance(value, torch.nn.Module):  # what a module keeps besides weights and children
        held: Mapping[Any, Any] = {k: v for k, v in vars(value).items() if not k.startswith("_")}
    elif isinstance(value, Mapping):
        held = value
    elif isinstance(value, tuple | list):
        held = dict(enumerate(value))
    else:
        held = getattr(value, "__dict__", {})
    for name, part in held.items():
        yield from _tensors(part, (*way, name), seen)
