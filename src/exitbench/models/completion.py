"""What a skipped block must still compute so that later tokens find its state: state completion, by data flow.

A token that leaves early hands its hidden state on to the blocks it skips (the strategy "copy"); each of them still has
to write keys and values, or move its recurrent state. Which weights that takes is read off the block itself: it is run
with its cache on random hidden states, and autograd says which elements of its parameters what it wrote depends on.
Rows of fused projections that feed queries, gates or outputs alone have exact zeros there. Nothing is looked up by
architecture or name.

Design choices: one decoded token, block by block, on copies of everything that a block was given, so that the pass
itself goes on untouched and one block's graph is held at a time. What was written must depend on the hidden state by
autograd's account too; where it does not (compiled kernels, quantised weights), the answer is a reason and no number.

Non-goals: products on the context within a state update; a state update counts by its elements, in `anatomy`.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from accelerate.utils import align_module_device, has_offloaded_params

from exitbench.models.adapter import ModelAdapter
from exitbench.models.discover import probe_ids
from exitbench.models.products import Products, is_packed
from exitbench.models.state import StateChange, held_tensors
from exitbench.models.stream import arguments

__all__ = ["Completion", "watch_completion"]

_PROMPT_TOKENS, _DECODED = 4, 2
_PROBES = 3
"""Random hidden states a block: an element counts if any of them shows it."""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What the state that one block writes for one token depends on."""

    elements: Mapping[str, int] = field(default_factory=dict)
    """Parameter -> elements of it that the state was seen to depend on."""
    mean_elements: Mapping[str, float] = field(default_factory=dict)
    """The same as the mean over the hidden states tried: of experts, which differ from one to the next."""
    context_share: float = 0.0
    """Share, by bytes, of what earlier tokens cached that it depends on too: attention whose output feeds a recurrence,
    or a second attention, of the same block."""
    reason: str | None = None
    """Why it is not known; None where it is."""


class _UnseenError(Exception):
    """Autograd does not show what a state depends on; the message says why."""


def watch_completion(adapter: ModelAdapter, products: Products, states: Sequence[StateChange]) -> list[Completion]:
    """What must still run of each block when it is skipped.

    Args:
        adapter: of the model.
        products: names its parameters.
        states: what each block writes for a decoded token, as seen before.
    """
    found: list[Completion] = [Completion() for _ in states]
    token = -1

    def entering(index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal token
        token += index == 0
        if token == _DECODED and states[index] != StateChange():
            try:
                with _weights_fetched(adapter.blocks[index]):
                    found[index] = _observed(adapter, index, (args, kwargs), products, states[index])
            # Autograd raises RuntimeError for whatever it cannot do.
            except (_UnseenError, RuntimeError) as error:
                found[index] = Completion(reason=" ".join(str(error).split())[:200])

    with adapter.watched(entering, lambda index, output: None):
        adapter.answer(probe_ids(adapter.model, _PROMPT_TOKENS), num_tokens=_DECODED + 1)
    return found


def _observed(
    adapter: ModelAdapter,
    index: int,
    call: tuple[tuple[Any, ...], dict[str, Any]],
    products: Products,
    state: StateChange,
) -> Completion:
    """Run one block on copies of what it was given, and ask autograd.

    Raises:
        _UnseenError: parameters without gradients, or a state that was written past autograd.
    """
    block = adapter.blocks[index]
    parameters = {products.name_of(p): p for p in block.parameters()}
    packed = [f"{adapter.paths.blocks[index]}.{name}" for name, module in block.named_modules() if is_packed(module)]
    packed += [name for name, parameter in parameters.items() if not _is_plain(parameter)]
    if packed:
        raise _UnseenError(f"{packed[0]} is quantised")
    masks: dict[str, torch.Tensor] = {}
    counts: dict[str, float] = {}
    context_share = 0.0
    generator = torch.Generator().manual_seed(index)
    grown: tuple[tuple[Any, ...], ...] = ()
    for _ in range(_PROBES):
        with _differentiable(block, parameters):
            probe = _Probe.run(adapter, index, call, grown, generator)
            grown = probe.grown
            probe.require_complete(state)
            gradients, share = probe.gradients(list(parameters.values()), generator)
        context_share = max(context_share, share)
        for name, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                fed = gradient != 0
                masks[name] = fed | masks[name] if name in masks else fed
                counts[name] = counts.get(name, 0) + int(fed.sum()) / _PROBES
    elements = {name: int(mask.sum()) for name, mask in masks.items()}
    return Completion(elements=elements, mean_elements=counts, context_share=context_share)


def _is_plain(parameter: torch.nn.Parameter) -> bool:
    return type(parameter.data) is torch.Tensor and parameter.is_floating_point()


@contextmanager
def _weights_fetched(block: torch.nn.Module) -> Iterator[None]:
    """Keep weights that wait elsewhere where they are used, instead of fetching copies anew in every call."""
    with ExitStack() as stack:
        for module in block.modules():
            if has_offloaded_params(module):
                stack.enter_context(align_module_device(module))
                stack.enter_context(patch.dict(vars(module), forward=vars(module)["_old_forward"]))
        yield


@contextmanager
def _differentiable(block: torch.nn.Module, parameters: Mapping[str, torch.nn.Parameter]) -> Iterator[None]:
    """Gradients for a block's parameters, and whatever its modules keep put back as it was afterwards."""
    kept = [
        (vars(module), {k: v for k, v in vars(module).items() if not k.startswith("_")}) for module in block.modules()
    ]
    needed = {name: parameter.requires_grad for name, parameter in parameters.items()}
    try:
        for held, values in kept:
            held |= {k: copy.deepcopy(v) for k, v in values.items() if any(True for _ in held_tensors(v))}
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        # States written in place would otherwise spoil what was saved for the backward pass.
        with torch.enable_grad(), torch.autograd.graph.allow_mutation_on_saved_tensors(), _no_grad_ignored():
            yield
    finally:
        for name, parameter in parameters.items():
            parameter.requires_grad_(needed[name])
        for held, values in kept:
            held |= values


@contextmanager
def _no_grad_ignored() -> Iterator[None]:
    """Let code that turns gradients off for itself, as indexers of sparse attention do, show what it depends on."""
    with (
        patch.object(torch.no_grad, "__enter__", lambda self: None),
        patch.object(torch.no_grad, "__exit__", lambda self, *error: None),
    ):
        yield


@dataclass(frozen=True, kw_only=True)
class _Probe:
    """One differentiable call of a block on a random hidden state."""

    written: list[torch.Tensor]
    """State that is new: positions added, and tensors that changed."""
    num_fixed: int
    """Elements of those that changed."""
    grown: tuple[tuple[Any, ...], ...]
    """Ways to the tensors that grew."""
    grown_bytes: int
    context: list[torch.Tensor]
    """What was cached before, where gradients are to reach it."""

    @classmethod
    def run(
        cls,
        adapter: ModelAdapter,
        index: int,
        call: tuple[tuple[Any, ...], dict[str, Any]],
        grown: tuple[tuple[Any, ...], ...],
        generator: torch.Generator,
    ) -> "_Probe":
        """Call the block with a random hidden state of the size that it was given."""
        port, block = adapter.paths.ports[index], adapter.blocks[index]
        args, kwargs = copy.deepcopy(call)
        real = port.taken(args, kwargs)
        noise = torch.randn(real.shape, generator=generator).to(real) * real.float().std().to(real)
        hidden = noise.requires_grad_(True).clone()  # a copy, for a block may write to its input
        given = arguments(args, kwargs)
        del given[port.argument]
        holders = given, list(block.modules())
        before = dict(held_tensors(holders))
        context = [before[way].requires_grad_(True) for way in grown]
        old = {way: tensor.detach().clone() for way, tensor in before.items()}
        args, kwargs = port.given(args, kwargs, hidden)
        # Past the hooks, which watch the pass that this is no part of.
        output = block.forward(*args, **kwargs)
        now = dict(held_tensors(holders))
        changed = [way for way in old if way in now and not _same(old[way], now[way])]
        longer = tuple(way for way in changed if old[way].shape != now[way].shape)
        written = [_added(now[way], old[way]) if way in longer else now[way] for way in changed]
        num_fixed = sum(now[way].numel() for way in changed if way not in longer)
        if not written:  # blocks that return their state, for the model to keep
            shapes = {tensor.shape for way, tensor in old.items() if len(way) > 2}
            returned = output if isinstance(output, tuple | list) else ()
            others = [part for entry, part in enumerate(returned) if entry != port.entry]
            written = [tensor for _, tensor in held_tensors(others) if tensor.shape in shapes]
            num_fixed = sum(tensor.numel() for tensor in written)
        return cls(
            written=written,
            num_fixed=num_fixed,
            grown=longer,
            grown_bytes=sum(now[way].nbytes - old[way].nbytes for way in longer),
            context=context,
        )

    def require_complete(self, state: StateChange) -> None:
        """Refuse what is not all of the state, or not seen by autograd.

        Raises:
            _UnseenError: says which.
        """
        if self.grown_bytes != state.grown_bytes or bool(self.num_fixed) is not bool(state.changed_elements):
            raise _UnseenError("the state that it writes was not found in a call of the block alone")
        if not all(tensor.requires_grad for tensor in self.written):
            raise _UnseenError("it writes its state in code that autograd does not see")

    def gradients(
        self, parameters: list[torch.nn.Parameter], generator: torch.Generator
    ) -> tuple[list[torch.Tensor | None], float]:
        """Gradients of a random sum of the state for each parameter, and the share of older state that any reaches."""
        parts = (tensor * torch.randn(tensor.shape, generator=generator).to(tensor) for tensor in self.written)
        total = sum(part.sum().float().cpu() for part in parts)
        assert isinstance(total, torch.Tensor)
        found = torch.autograd.grad(total, [*parameters, *self.context], allow_unused=True)
        gradients, of_context = found[: len(parameters)], found[len(parameters) :]
        sizes = [tensor.nbytes for tensor in self.context]
        reached = [g is not None and bool((g != 0).any()) for g in of_context]
        share = sum(size for size, is_reached in zip(sizes, reached, strict=True) if is_reached) / max(sum(sizes), 1)
        return list(gradients), share


def _same(old: torch.Tensor, new: torch.Tensor) -> bool:
    return old.shape == new.shape and torch.equal(old, new.detach())


def _added(new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    """The entries by which a tensor grew, on the axis on which it did."""
    axis = next(i for i, (n, o) in enumerate(zip(new.shape, old.shape, strict=True)) if n != o)
    return new.narrow(axis, old.shape[axis], new.shape[axis] - old.shape[axis])
