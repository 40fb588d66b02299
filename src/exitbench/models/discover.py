"""Find a model's parts by watching one forward pass, instead of listing architectures.

The blocks are the list of modules in which each one's output is, bit for bit, the next one's input. What runs after the
last of them (norms, projections, head) is the readout. Nothing is looked up by architecture name; what is found here is
proved in `exitbench.models.validate`.

Shapes: B = 1 sequence, T tokens, D hidden size, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from exitbench.errors import ValidationError

__all__ = ["ModulePaths", "discover", "hidden_of_input", "hidden_of_output", "probe_ids"]


@dataclass(frozen=True, kw_only=True)
class ModulePaths:
    """An adapter as data: the paths of a model's parts and what one pass showed of them."""

    embedding: str
    blocks: str
    """Path of the module list; its entries run in order."""
    num_blocks: int
    tail: tuple[str, ...]
    """Modules without children that run after the last block, in order: norms, projections, head."""
    head: str
    hidden_size: int
    """Width of the hidden state between blocks."""
    vocab_size: int
    """V, the number of logits."""
    block_weights: tuple[int, ...]
    """Matrix-product weights used by each block for one token, counted as they ran; the mean over the tokens seen."""
    quirks: tuple[str, ...]
    """What a naive norm-and-head readout would get wrong."""


def probe_ids(model: PreTrainedModel, num_tokens: int = 24) -> torch.Tensor:
    """(1, T) random token ids, always the same for a vocabulary size."""
    generator = torch.Generator().manual_seed(0)
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, torch.nn.Embedding)
    ids = torch.randint(embedding.num_embeddings, (1, num_tokens), generator=generator)
    return ids.to(model.device)


def hidden_of_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The hidden state that a block was called with."""
    return args[0] if args else kwargs.get("hidden_states")


def hidden_of_output(output: Any) -> Any:
    """The hidden state that a block returned: the output itself or the first entry of a tuple."""
    return output[0] if isinstance(output, tuple) else output


@dataclass
class _Observation:
    """What happened in one forward pass, in the order in which it happened."""

    calls: list[tuple[str, int, Any, Any]] = field(default_factory=list)
    """(module list, index in it, hidden in, hidden out) of every finished call of an entry of a module list."""
    leaves: list[tuple[str, int, Any]] = field(default_factory=list)
    """(path, number of `calls` finished before it, output) of every call of a module without children."""
    products: dict[str, int] = field(default_factory=dict)
    """Path -> weights times rows that went through, of every linear map."""
    logits: torch.Tensor | None = None


@contextmanager
def _observed(model: PreTrainedModel, seen: _Observation) -> Iterator[None]:
    lists = {name: m for name, m in model.named_modules() if isinstance(m, torch.nn.ModuleList)}
    entries = {id(entry): (name, i) for name, entries in lists.items() for i, entry in enumerate(entries)}

    def watch(name: str, module: torch.nn.Module) -> torch.utils.hooks.RemovableHandle:
        def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            if id(module) in entries:
                seen.calls.append((*entries[id(module)], hidden_of_input(args, kwargs), hidden_of_output(output)))
            if not any(True for _ in module.children()):
                seen.leaves.append((name, len(seen.calls), output))
            if isinstance(module, torch.nn.Linear | Conv1D):
                # By rows and not by calls: an expert sees only the tokens routed to it.
                rows = output.shape[:-1].numel()
                seen.products[name] = seen.products.get(name, 0) + module.weight.numel() * rows

        return module.register_forward_hook(hook, with_kwargs=True)

    with ExitStack() as stack:
        for name, module in model.named_modules():
            stack.callback(watch(name, module).remove)
        yield


def _why_not_a_chain(calls: list[tuple[int, Any, Any]], num_entries: int) -> str | None:
    """None if every entry ran once, in order, each on the previous one's output; else the reason."""
    if [index for index, _, _ in calls] != list(range(num_entries)):
        return f"{len(calls)} calls for {num_entries} entries, or out of order"
    if not all(isinstance(h, torch.Tensor) and h.ndim == 3 for _, *pair in calls for h in pair):
        return "entries do not map a (batch, tokens, hidden) tensor to one"
    for (_, _, output), (index, entering, _) in pairwise(calls):
        if output.shape != entering.shape or not torch.equal(output, entering):
            return f"entry {index} does not start from what entry {index - 1} returned"
    return None


def _find_blocks(model: PreTrainedModel, seen: _Observation) -> str:
    """Path of the module list with the most parameters among those that form a chain."""
    lists = {name: m for name, m in model.named_modules() if isinstance(m, torch.nn.ModuleList)}
    reasons: dict[str, str] = {}
    chains: dict[str, int] = {}
    for name, entries in lists.items():
        calls = [(i, before, after) for owner, i, before, after in seen.calls if owner == name]
        reason = _why_not_a_chain(calls, len(entries))
        if reason is None and len(entries) > 0:
            chains[name] = sum(p.numel() for p in entries.parameters())
        else:
            reasons[name] = reason or "empty"
    if not chains:
        tried = "; ".join(f"{name}: {why}" for name, why in list(reasons.items())[:5]) or "no module lists"
        raise ValidationError(
            f"no chain of blocks found in {type(model).__name__}; tried {tried}; "
            "see CONTRIBUTING, 'A model architecture'"
        )
    return max(chains, key=lambda name: chains[name])


def _count_block_weights(
    model: PreTrainedModel, blocks: str, num_blocks: int, num_tokens: int, seen: _Observation
) -> tuple[int, ...]:
    """Matrix-product weights of each block a token; refuses a block with matrices that no linear map used."""
    counts = []
    for index in range(num_blocks):
        prefix = f"{blocks}.{index}."
        counts.append(round(sum(n for name, n in seen.products.items() if name.startswith(prefix)) / num_tokens))
        for name, parameter in model.get_submodule(prefix[:-1]).named_parameters():
            owner = (prefix + name).rpartition(".")[0]
            if parameter.ndim > 1 and owner not in seen.products:
                raise ValidationError(
                    f"cannot count the cost of block {index + 1} of {type(model).__name__}: parameter {prefix + name} "
                    f"of shape {tuple(parameter.shape)} is used by no linear map; such blocks are not supported yet"
                )
    return tuple(counts)


def discover(model: PreTrainedModel) -> ModulePaths:
    """Find embedding, blocks, readout modules and block costs of a causal language model.

    Args:
        model: in eval mode.

    Raises:
        ValidationError: no chain of blocks, no head, or a block whose cost cannot be counted; says what was tried.
    """
    seen, ids = _Observation(), probe_ids(model)
    with torch.inference_mode(), _observed(model, seen):
        seen.logits = model(input_ids=ids, use_cache=False).logits
    blocks = _find_blocks(model, seen)
    num_blocks = len(model.get_submodule(blocks))  # type: ignore[arg-type]

    last = max(i for i, (owner, *_) in enumerate(seen.calls) if owner == blocks)
    tail = [(name, output) for name, finished, output in seen.leaves if finished > last]
    names = {id(m): name for name, m in model.named_modules()}
    head = names.get(id(model.get_output_embeddings()))
    if head is None or head not in [name for name, _ in tail]:
        raise ValidationError(
            f"{type(model).__name__} has no language-model head that runs after its blocks; "
            f"got {[name for name, _ in tail]}; exitbench needs a causal language model"
        )
    quirks = []
    head_output = next(output for name, output in tail if name == head)
    if not torch.equal(head_output, seen.logits):
        quirks.append("logits are changed after the head (soft-cap, scale or cut vocabulary)")
    if len(tail) != 2:
        quirks.append(f"{len(tail) - 1} modules between blocks and head")
    return ModulePaths(
        embedding=names[id(model.get_input_embeddings())],
        blocks=blocks,
        num_blocks=num_blocks,
        tail=tuple(name for name, _ in tail),
        head=head,
        hidden_size=seen.calls[last][-1].shape[-1],
        vocab_size=seen.logits.shape[-1],
        block_weights=_count_block_weights(model, blocks, num_blocks, ids.numel(), seen),
        quirks=tuple(quirks),
    )
