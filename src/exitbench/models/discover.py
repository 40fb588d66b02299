"""Find a model's parts by watching one forward pass, instead of listing architectures.

The blocks are calls of the entries of one module list, in the order in which they ran, each on what the one before it
returned: bit for bit, or times a constant (RWKV halves its hidden state every few blocks). A block that runs more than
once counts at each run. What runs after the last of them (norms, projections, head) is the readout. Nothing is looked
up by architecture name; what is found here is proved in `exitbench.models.validate`.

Shapes: B = 1 sequence, T tokens, D hidden size, V vocabulary.
"""

import inspect
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from transformers import PreTrainedModel

from exitbench.errors import ValidationError
from exitbench.models.stream import Argument, Layout, Port, candidates_in, candidates_out

__all__ = ["BLOCK_COUNTS", "ModulePaths", "discover", "probe_ids"]

BLOCK_COUNTS = (
    *("num_hidden_layers", "num_layers", "num_blocks", "n_layer", "n_layers"),
    *("encoder_layers", "decoder_layers", "num_encoder_layers", "num_decoder_layers"),
)
"""Names under which configs state their number of blocks."""

_PROBE_TOKENS = 24


@dataclass(frozen=True, kw_only=True)
class ModulePaths:
    """An adapter as data: the paths of a model's parts and what one pass showed of them."""

    embedding: str
    blocks: tuple[str, ...]
    """Paths of the blocks in the order in which they run; a path twice if a block runs twice."""
    ports: tuple[Port, ...]
    """Where each block takes and leaves the hidden state."""
    scales: tuple[float, ...]
    """What the model multiplies each block's output by before the next block, or the readout, sees it; mostly 1."""
    layout: Layout
    tail: tuple[str, ...]
    """Modules without children that run after the last block, in order: norms, projections, head."""
    head: str
    vocab_size: int
    """V, the number of logits."""
    quirks: tuple[str, ...]
    """What a naive norm-and-head readout, or a naive count, would get wrong."""

    @property
    def num_blocks(self) -> int:
        """L."""
        return len(self.blocks)

    @property
    def hidden_size(self) -> int:
        """D, the width of the hidden state between blocks, all its streams together."""
        return self.layout.width


def probe_ids(model: PreTrainedModel, num_tokens: int = _PROBE_TOKENS) -> torch.Tensor:
    """(1, T) random token ids, always the same for a vocabulary size."""
    generator = torch.Generator().manual_seed(0)
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, torch.nn.Module)
    # Ids are a text's; some models keep the last ones of the table for images, or pad the table.
    table = int(embedding.get_parameter("weight").shape[0])
    known = min(table, getattr(model.config.get_text_config(decoder=True), "vocab_size", table))
    return torch.randint(known, (1, num_tokens), generator=generator).to(model.device)


@dataclass
class _Call:
    """One finished call of an entry of a module list; tensors as they were when it was made and when it ended."""

    path: str
    taken: dict[Argument, torch.Tensor]
    left: dict[int | None, torch.Tensor]
    output: Any


@dataclass
class _Observation:
    """What happened in one forward pass, in the order in which it happened."""

    calls: list[_Call] = field(default_factory=list)
    leaves: list[tuple[str, int, Any]] = field(default_factory=list)
    """(path, number of `calls` finished before it, output) of every call of a module without children."""
    logits: torch.Tensor | None = None


@contextmanager
def _observed(model: PreTrainedModel, seen: _Observation, num_tokens: int) -> Iterator[None]:
    taken: dict[int, dict[Argument, torch.Tensor]] = {}

    def before(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        taken[id(module)] = {name: value.clone() for name, value in candidates_in(args, kwargs, num_tokens)}

    def watch_entry(path: str, entry: torch.nn.Module) -> None:
        def after(module: torch.nn.Module, _: Any, output: Any) -> None:
            left = {name: value.clone() for name, value in candidates_out(output, num_tokens)}
            seen.calls.append(_Call(path=path, taken=taken.pop(id(module)), left=left, output=output))

        stack.callback(entry.register_forward_pre_hook(before, with_kwargs=True).remove)
        stack.callback(entry.register_forward_hook(after).remove)

    def watch_leaf(path: str, leaf: torch.nn.Module) -> None:
        hook = leaf.register_forward_hook(lambda _, __, output: seen.leaves.append((path, len(seen.calls), output)))
        stack.callback(hook.remove)

    with ExitStack() as stack:
        for path, module in model.named_modules():  # every module once, by its first path
            if isinstance(model.get_submodule(path.rpartition(".")[0]), torch.nn.ModuleList):
                watch_entry(path, module)
            if not any(True for _ in module.children()):
                watch_leaf(path, module)
        yield


def _scale(before: torch.Tensor, after: torch.Tensor) -> float | None:
    """The constant c with after = c * before to the last bit, None if there is none."""
    if before.shape != after.shape or before.dtype != after.dtype:
        return None
    after = after.to(before.device)
    if ((before == after) | (before.isnan() & after.isnan())).all():
        return 1.0
    largest = before.abs().argmax()
    factor = (after.flatten()[largest] / before.flatten()[largest]).item()
    return factor if torch.equal(before * factor, after) else None


def _link(call: _Call, following: _Call) -> tuple[int | None, Argument, float] | None:
    """(part of a call's output, argument of the next call, factor) by which one follows from the other."""
    for entry, left in call.left.items():
        for argument, taken in following.taken.items():
            factor = _scale(left, taken)
            if factor is not None and factor > 0:
                return entry, argument, factor
    return None


@dataclass(frozen=True, kw_only=True)
class _Chain:
    """The blocks, as calls that follow from one another."""

    calls: list[_Call]
    ports: tuple[Port, ...]
    scales: tuple[float, ...]
    layout: Layout


def _chained(calls: list[_Call], num_tokens: int) -> _Chain | str:
    """Link the calls of one list's entries, or say why they do not follow from one another."""
    links = []
    for before, after in pairwise(calls):
        link = _link(before, after)
        if link is None:
            return f"{after.path} does not start from what {before.path} returned"
        links.append(link)
    first, last = calls[0], calls[-1]
    if not first.taken or not last.left:
        return "entries do not map the hidden states of a sequence to those of the same"
    # What the first block takes and the last one leaves is no link; the others tell where to look.
    first_argument = links[0][1] if links and links[0][1] in first.taken else next(iter(first.taken))
    last_entry = links[-1][0] if links and links[-1][0] in last.left else next(iter(last.left))
    arguments = [first_argument, *(argument for _, argument, _ in links)]
    entries = [*(entry for entry, _, _ in links), last_entry]
    layout = Layout.of(last.left[last_entry], num_tokens)
    assert layout is not None
    return _Chain(
        calls=calls,
        ports=tuple(
            Port(
                argument=argument,
                entry=entry,
                num_entries=0 if entry is None else len(call.output),
                is_list=isinstance(call.output, list),
            )
            for call, argument, entry in zip(calls, arguments, entries, strict=True)
        ),
        scales=(*(factor for _, _, factor in links), 1.0),
        layout=layout,
    )


def _find_chain(model: PreTrainedModel, seen: _Observation, num_tokens: int) -> _Chain:
    """The chain of the module list with the most parameters, among the lists whose entries form one."""
    chains: list[tuple[int, _Chain]] = []
    reasons: dict[str, str] = {}
    for name, entries in model.named_modules():
        if not isinstance(entries, torch.nn.ModuleList):
            continue
        paths = {f"{name}.{i}": entry for i, entry in enumerate(entries)}
        calls = [call for call in seen.calls if call.path in paths]
        ran = {id(paths[call.path]) for call in calls}
        idle = [path for path, entry in paths.items() if id(entry) not in ran]
        if not calls or idle:
            reasons[name] = f"{idle[0]} never ran" if calls else "none of its entries ran" if paths else "it is empty"
            continue
        chain = _chained(calls, num_tokens)
        if isinstance(chain, str):
            reasons[name] = chain
        else:
            chains.append((_num_parameters(model, name), chain))
    # A list inside a block can be a chain too; a longer list of reasons would hide the one that matters.
    if chains:
        size, chain = max(chains, key=lambda item: item[0])
        larger = [name for name in reasons if _num_parameters(model, name) > size and "none of" not in reasons[name]]
        if not larger:
            return chain
        reasons = {name: reasons[name] for name in larger}
    ordered = sorted(reasons, key=lambda name: (_num_parameters(model, name), name), reverse=True)
    tried = "; ".join(f"{name}: {reasons[name]}" for name in ordered[:3]) or "no module lists"
    raise ValidationError(
        f"no chain of blocks found in {type(model).__name__}; tried {tried}; see CONTRIBUTING, 'A model architecture'"
    )


def _num_parameters(model: PreTrainedModel, path: str) -> int:
    return sum(p.numel() for p in model.get_submodule(path).parameters())


def _require_honest_config(model: PreTrainedModel, blocks: Sequence[str]) -> None:
    """Refuse a config that states another depth than was run.

    Raises:
        ValidationError: names the field.
    """
    config = model.config.get_text_config(decoder=True)
    num_blocks, num_modules = len(blocks), len(set(blocks))
    stated = {name: value for name in BLOCK_COUNTS if type(value := getattr(config, name, None)) is int}
    if stated and not {num_blocks, num_modules} & set(stated.values()):
        said = ", ".join(f"{name} = {count}" for name, count in stated.items())
        raise ValidationError(
            f"the config of {type(model).__name__} says {said}, but {num_blocks} blocks run; "
            "mend the config, or load the model with the code that it was written for"
        )
    known = set(inspect.signature(type(config)).parameters)
    for name, value in vars(config).items():
        depths = [int(v) for v in (value if isinstance(value, list | tuple) else [value]) if str(v).isdecimal()]
        if name not in known and re.search(r"exit|skip_layer", name) and any(0 < d < num_blocks for d in depths):
            raise ValidationError(
                f"the config of {type(model).__name__} says {name} = {value}, but all {num_blocks} blocks run: "
                "transformers ignores that field; take it out, or load the model with the code that obeys it"
            )


def discover(model: PreTrainedModel) -> ModulePaths:
    """Find embedding, blocks and readout modules of a causal language model.

    Args:
        model: in eval mode.

    Raises:
        ValidationError: no chain of blocks, no head, or a config that lies; says what was tried.
    """
    seen, ids = _Observation(), probe_ids(model)
    num_tokens = ids.shape[1]
    with torch.inference_mode(), _observed(model, seen, num_tokens):
        seen.logits = model(input_ids=ids, use_cache=False).logits
    chain = _find_chain(model, seen, num_tokens)
    _require_honest_config(model, [call.path for call in chain.calls])

    last = max(i for i, call in enumerate(seen.calls) if call is chain.calls[-1])
    tail = [(name, output) for name, finished, output in seen.leaves if finished > last]
    names = {id(m): name for name, m in model.named_modules()}
    head = names.get(id(model.get_output_embeddings()))
    if head is None or head not in [name for name, _ in tail]:
        raise ValidationError(
            f"{type(model).__name__} has no language-model head that runs after its blocks; "
            f"got {[name for name, _ in tail]}; exitbench needs a causal language model"
        )
    return ModulePaths(
        embedding=names[id(model.get_input_embeddings())],
        blocks=tuple(call.path for call in chain.calls),
        ports=chain.ports,
        scales=chain.scales,
        layout=chain.layout,
        tail=tuple(name for name, _ in tail),
        head=head,
        vocab_size=seen.logits.shape[-1],
        quirks=tuple(_quirks(chain, [name for name, _ in tail], dict(tail)[head], seen.logits)),
    )


def _quirks(chain: _Chain, tail: list[str], head_output: torch.Tensor, logits: torch.Tensor) -> Iterator[str]:
    if len({call.path for call in chain.calls}) < len(chain.calls):
        yield "some blocks run more than once"
    if len(chain.layout.before) + len(chain.layout.after) > 1:
        streams = chain.layout.width // chain.layout.after[-1]
        yield f"{streams} streams a token between blocks"
    for depth, factor in enumerate(chain.scales, start=1):
        if factor != 1:
            yield f"the hidden state is multiplied by {factor:g} after block {depth}"
    if not torch.equal(head_output.reshape(-1), logits.reshape(-1)):
        yield "logits are changed after the head (soft-cap, scale or cut vocabulary)"
    if len(tail) != 2:
        yield f"{len(tail) - 1} modules between blocks and head"
