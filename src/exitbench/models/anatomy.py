"""What each block is and costs, found by watching the model run; see `shape` for what is counted.

Four observations: a pass over the probe, for the weights that a token goes through and which part of the model each
parameter belongs to; two tokens decoded with the cache, one after the other, for what a position more costs and what
state is kept; one more with gradients, for what that state depends on (`completion`); and every block run alone, for
how it mixes tokens.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from exitbench.errors import ValidationError
from exitbench.models.adapter import ModelAdapter
from exitbench.models.completion import Completion, watch_completion
from exitbench.models.discover import probe_ids
from exitbench.models.mixing import Mixing, mixing_of, window_of
from exitbench.models.products import Products
from exitbench.models.rotary import rotary_bases
from exitbench.models.shape import BlockShape, Experts, MixerKind, ModelShape, ParameterCount
from exitbench.models.state import Snapshot, StateChange, snapshot
from exitbench.models.stream import Argument, arguments

__all__ = ["model_shape"]

_BEFORE, _AFTER = "before the blocks", "after the blocks"
_PROMPT_TOKENS = 4
_DECODED = 2
"""Tokens decoded with the cache."""
_STATE_FLOPS = 3
"""FLOPs to update one element of a state of fixed size: decay it, make what is new, add."""
_NEGLIGIBLE = 0.02
_LISTED_EXPERT = re.compile(r"(?P<list>.*experts?)\.(?P<number>\d+)\.(?P<rest>.*)")


@dataclass(frozen=True)
class _Decoding:
    """What two tokens decoded one after the other showed, by (token, block); token 0 is the prompt."""

    weights: dict[tuple[int, int], Counter[str]]
    """Multiply-adds of products with each parameter."""
    context: dict[tuple[int, int], int]
    """Multiply-adds of products without weights."""
    written: dict[tuple[int, int], StateChange]
    """State that changed while the block ran."""
    handed: dict[tuple[int, int], Snapshot]
    """State that the block was given, where it wrote none itself."""

    @property
    def has_cache(self) -> bool:
        """Whether anything is kept for later tokens."""
        return any(self.state_change(index) != StateChange() for token, index in self.written if token == _DECODED)

    def state_change(self, index: int) -> StateChange:
        """What the last token changed in the state of one block."""
        if any(change != StateChange() for (token, _), change in self.written.items() if token == _DECODED):
            return self.written[_DECODED, index]
        # Blocks that return their state in a container: compare what they were given for one token and for the next.
        before, after = (_nested(self.handed[token, index]) for token in (_DECODED - 1, _DECODED))
        return replace(StateChange.between(before, after), grown_bytes=0)


def _nested(state: Snapshot) -> Snapshot:
    """Without what was given directly, like masks, or for one token only, like rotary angles."""
    return {way: value for way, value in state.items() if len(way) > 2 and tuple(value.shape[:2]) != (1, 1)}


def model_shape(adapter: ModelAdapter) -> ModelShape:
    """Sizes, anatomy and block costs c_k of a model.

    The costs are shares of the blocks' active matrix-product weights. Attention over the context is left out of them,
    so that a score does not depend on prompt length.

    Raises:
        ValidationError: a block in which no product with weights was seen, so that its cost is unknown.
    """
    model, num_blocks = adapter.model, adapter.num_blocks
    ids = probe_ids(model)
    products = Products(model)
    with torch.no_grad(), products.watching(), _phases(adapter, products):
        model(input_ids=ids, use_cache=False)
    decoding = _watch_decoding(adapter)
    completions = watch_completion(adapter, products, [decoding.state_change(i) for i in range(num_blocks)])
    with torch.no_grad():
        probe = adapter.record(ids)
        blocks = tuple(
            _block_shape(adapter, i, products, ids.numel(), decoding, mixing_of(adapter, i, probe), completions[i])
            for i in range(num_blocks)
        )
    weights = [block.product_weights for block in blocks]
    after = products.weights[_AFTER]
    head_path = f"{adapter.paths.head}.weight"
    return ModelShape(
        hidden_size=adapter.hidden_size,
        vocab_size=adapter.paths.vocab_size,
        num_parameters=sum(p.numel() for p in model.parameters()),
        parameters=_count_parameters(adapter, products),
        blocks=blocks,
        block_costs=tuple(w / sum(weights) for w in weights),
        head_weights=round(sum(after.values()) / ids.numel()) or model.get_parameter(head_path).numel(),
        head_weight_bytes=sum(p.nbytes for name, p in model.named_parameters() if name in after) or None,
        rotary=rotary_bases(model),
    )


@contextmanager
def _phases(adapter: ModelAdapter, products: Products) -> Iterator[None]:
    """Name the phase of a pass for `products`: the index of the block in work, or what lies before or after."""

    def entering(index: int, args: Any, kwargs: Any) -> None:
        products.phase = index

    def leaving(index: int, output: Any) -> None:
        # Between two blocks nothing happens, or next to nothing: it counts with the block before.
        products.phase = _AFTER if index == adapter.num_blocks - 1 else index

    products.phase = _BEFORE
    with adapter.watched(entering, leaving):
        yield


def _watch_decoding(adapter: ModelAdapter) -> _Decoding:
    """Answer a short prompt with three tokens: one pass over the prompt, then two tokens decoded with the cache."""
    products, token = Products(adapter.model), -1
    written: dict[tuple[int, int], StateChange] = {}
    handed: dict[tuple[int, int], Snapshot] = {}
    entered: dict[int, tuple[dict[Argument, Any], Snapshot]] = {}

    def held(index: int, given: dict[Argument, Any]) -> Snapshot:
        return snapshot(given, list(adapter.blocks[index].modules()))

    def entering(index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal token
        token += index == 0
        given = arguments(args, kwargs)
        del given[adapter.paths.ports[index].argument]
        entered[index] = given, held(index, given)
        products.phase = token, index

    def leaving(index: int, output: Any) -> None:
        given, before = entered.pop(index)
        written[token, index] = StateChange.between(before, held(index, given))
        if written[token, index] == StateChange():  # or copies of a whole cache would be held for every block
            handed[token, index] = before
        products.phase = None

    with products.watching(), adapter.watched(entering, leaving):
        adapter.answer(probe_ids(adapter.model, _PROMPT_TOKENS), num_tokens=_DECODED + 1)
    return _Decoding(
        weights={phase: products.weights[phase] for phase in written},
        context={phase: products.context[phase] for phase in written},
        written=written,
        handed=handed,
    )


def _decode_flops(decoding: _Decoding, index: int, experts_weights: Counter[str]) -> tuple[int, int]:
    """FLOPs of a token decoded in one block: those at any context, and those for each position of it.

    Args:
        decoding: what was seen of two decoded tokens.
        index: of the block.
        experts_weights: multiply-adds a token with each parameter that belongs to experts; their mean, since the two
            tokens may have gone to few or many experts.
    """
    multiply_adds = [
        decoding.context[token, index]
        + sum(n for name, n in decoding.weights[token, index].items() if name not in experts_weights)
        for token in (_DECODED - 1, _DECODED)
    ]
    slope = multiply_adds[1] - multiply_adds[0]
    fixed = multiply_adds[1] - slope * (_PROMPT_TOKENS + _DECODED) + sum(experts_weights.values())
    return 2 * fixed, 2 * slope


def _block_shape(
    adapter: ModelAdapter,
    index: int,
    products: Products,
    num_tokens: int,
    decoding: _Decoding,
    mixing: Mixing,
    completion: Completion,
) -> BlockShape:
    path, multiply_adds = adapter.paths.blocks[index], products.weights[index]
    parameters = {products.name_of(p): p for p in adapter.blocks[index].parameters()}
    product_weights = round(sum(multiply_adds.values()) / num_tokens)
    if product_weights == 0:
        raise ValidationError(
            f"cannot count the cost of block {index + 1} of {type(adapter.model).__name__}: no matrix product with its "
            f"{sum(p.numel() for p in parameters.values()):,} parameters was seen"
        )
    used = {name: multiply_adds[name] / num_tokens / max(p.numel(), 1) for name, p in parameters.items()}
    experts = _experts(adapter, parameters, used)
    active = {
        name: p.numel() * _active_share(name, p, used[name], experts, touched=name in products.touched[index])
        for name, p in parameters.items()
    }
    of_experts = Counter(
        {name: round(n / num_tokens) for name, n in multiply_adds.items() if 0 < used.get(name, 1) < 1}
    )
    fixed_flops, slope = _decode_flops(decoding, index, of_experts)
    state, has_cache = decoding.state_change(index), decoding.has_cache
    window = window_of(adapter.model.config.get_text_config(decoder=True), path) if slope > 0 else None
    return BlockShape(
        mixers=tuple(_mixers(mixing, attends=slope > 0, window=window, keeps_state=state.changed_elements > 0)),
        feed_forward=_share_outside(mixing, path, multiply_adds) > _NEGLIGIBLE,
        experts=experts,
        parameters=sum(p.numel() for p in parameters.values()),
        active_parameters=round(sum(active.values())),
        product_weights=product_weights,
        fixed_flops=fixed_flops + _STATE_FLOPS * state.changed_elements if has_cache else None,
        flops_per_position=slope if has_cache else None,
        window=window,
        weight_bytes=round(sum(active[name] * p.nbytes / max(p.numel(), 1) for name, p in parameters.items())),
        state_bytes=state.changed_bytes,
        state_bytes_per_position=state.grown_bytes,
        **_completion_costs(completion, parameters, used, state, slope if has_cache else None),
    )


def _completion_costs(
    completion: Completion,
    parameters: Mapping[str, torch.nn.Parameter],
    used: Mapping[str, float],
    state: StateChange,
    flops_per_position: int | None,
) -> dict[str, Any]:
    """What it takes to give a skipped block its state, as fields of `BlockShape`.

    Args:
        completion: what the state depends on.
        parameters: of the block.
        used: multiply-adds a token with each of them, as a share of its elements.
        state: what the block writes for a token.
        flops_per_position: of the block's attention; None without a cache.
    """
    if flops_per_position is None:
        return {"completion_reason": "the model has no cache"}
    if completion.reason is not None:
        return {"completion_reason": completion.reason}
    elements = {
        name: completion.mean_elements[name] if 0 < used[name] < 1 else count
        for name, count in completion.elements.items()
    }
    multiply_adds = sum(n * max(1.0, used[name]) for name, n in elements.items() if used[name] > 0)
    return {
        "completion_flops": 2 * round(multiply_adds) + _STATE_FLOPS * state.changed_elements,
        "completion_flops_per_position": round(flops_per_position * completion.context_share),
        "completion_weight_bytes": round(sum(n * parameters[name].element_size() for name, n in elements.items())),
    }


def _experts(
    adapter: ModelAdapter, parameters: Mapping[str, torch.nn.Parameter], used: Mapping[str, float]
) -> Experts | None:
    """The experts of a block: slices of a stacked tensor, or entries of a list, of which a token uses a part."""
    stacked = [name for name in parameters if 0 < used[name] < 1 and not _LISTED_EXPERT.fullmatch(name)]
    if stacked:
        largest = max(stacked, key=lambda name: parameters[name].numel())
        shape = parameters[largest].shape
        total = shape[0] if len(shape) == 3 else _stated_experts(adapter.model, largest)
        return Experts(total=total, active=round(used[largest] * total, 3)) if total else None
    lists: dict[tuple[str, str], dict[str, float]] = {}
    for name, parameter in parameters.items():
        listed = _LISTED_EXPERT.fullmatch(name)
        if listed and parameter.ndim == 2:
            lists.setdefault((listed["list"], listed["rest"]), {})[listed["number"]] = used[name]
    shares = max(lists.values(), key=len, default={})
    return Experts(total=len(shares), active=round(sum(shares.values()), 3)) if len(shares) > 1 else None


def _stated_experts(model: torch.nn.Module, name: str) -> int | None:
    """How many experts a tensor holds side by side, as the modules around it state it."""
    parts = name.split(".")[:-1]
    for end in range(len(parts), 0, -1):
        module = model.get_submodule(".".join(parts[:end]))
        stated = (getattr(module, attribute, None) for attribute in ("num_experts", "moe_num_experts"))
        found = next((count for count in stated if isinstance(count, int)), None)
        if found is not None:
            return found
    return None


def _active_share(
    name: str, parameter: torch.nn.Parameter, used: float, experts: Experts | None, *, touched: bool
) -> float:
    """Share of a parameter that one token reads."""
    if experts is not None and _LISTED_EXPERT.fullmatch(name):
        return experts.active / experts.total
    if not touched:
        return 0.0
    if used > 0:
        return min(used, 1.0)
    of_experts = experts is not None and parameter.ndim > 1 and parameter.shape[0] == experts.total
    return experts.active / experts.total if experts is not None and of_experts else 1.0


def _mixers(mixing: Mixing, *, attends: bool, window: int | None, keeps_state: bool) -> Iterator[MixerKind]:
    if attends:
        yield "full attention" if window is None else "sliding attention"
    if keeps_state:
        yield mixing.recurrence


def _share_outside(mixing: Mixing, path: str, multiply_adds: Counter[str]) -> float:
    """Share of a block's products with weights that lie outside the modules that mix tokens."""
    inside = tuple(f"{path}.{module}." for module in mixing.modules)
    outside = sum(n for name, n in multiply_adds.items() if not name.startswith(inside))
    return outside / sum(multiply_adds.values()) if mixing.modules else float(mixing.reach == 1)


def _count_parameters(adapter: ModelAdapter, products: Products) -> ParameterCount:
    """Parameters of the whole model by the first part of it that uses them."""
    blocks = {id(p) for block in adapter.blocks for p in block.parameters()}
    before, after = products.touched[_BEFORE], products.touched[_AFTER]
    within = set().union(*(products.touched[i] for i in range(adapter.num_blocks)))
    counts: Counter[str] = Counter()
    for name, parameter in adapter.model.named_parameters():
        if id(parameter) in blocks:
            part = "blocks"
        elif name in before:
            part = "embedding"
        else:
            part = "output" if name in after else "blocks" if name in within else "idle"
        counts[part] += parameter.numel()
    return ParameterCount(**{part: counts[part] for part in ParameterCount.model_fields})
