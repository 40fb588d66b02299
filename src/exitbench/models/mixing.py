"""Tell what a block is by what it does: which of its modules carry information from one token to the next, and how far.

A block is run alone on what it was given in a pass over the probe, and again with its first token changed. Where
later tokens of its output change, it mixes tokens; a module inside whose input had changed at the first token only, and
whose output changed elsewhere, is what does it. Whether that is attention is seen by whether the work of a decoded
token grows with the context. Only the name given to a recurrence, SSM or linear attention, is read off names, and
nothing is computed from it.
"""

import re
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedConfig

from exitbench.models.adapter import ModelAdapter, Pass
from exitbench.models.shape import MixerKind
from exitbench.models.stream import Layout, candidates_in, candidates_out

__all__ = ["WINDOW_NAMES", "Mixing", "mixing_of", "window_of"]

# By names in a module's path or class; what matches none is called linear attention.
_RECURRENCES: dict[MixerKind, re.Pattern[str]] = {
    "SSM": re.compile(r"mamba|ssm|recurrent", re.IGNORECASE),
    "convolution": re.compile(r"conv", re.IGNORECASE),
}
WINDOW_NAMES = (
    "sliding_window",
    "sliding_window_size",
    "attention_chunk_size",
    "attention_window_size",
    "window_size",
)
"""Names under which configs state how many positions attention is limited to."""
_KIND_NAMES = ("layer_types", "layers_block_type", "attention_layers")
_UNLIMITED = re.compile(r"full|global|indexed|^hybrid$")


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How one block mixes tokens."""

    reach: int
    """Tokens, itself included, whose output the first token changes; 1 if the block does not mix."""
    modules: tuple[str, ...]
    """Outermost modules, by their paths in the block, that were seen to mix."""
    recurrence: MixerKind
    """What a state of fixed size would be called here."""


def mixing_of(adapter: ModelAdapter, index: int, probe: Pass) -> Mixing:
    """Run one block alone, twice, and see what its first token changes."""
    args, kwargs = probe.calls[index]
    port, layout = adapter.paths.ports[index], adapter.paths.layout
    hidden = port.taken(args, kwargs)
    rows = layout.to_rows(hidden).clone()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(rows[0, 0].shape, generator=generator).to(rows) * rows.float().std().to(rows)
    rows[0, 0] += noise
    num_tokens = rows.shape[1]
    plain, left = _watched_call(adapter, index, *port.given(args, kwargs, hidden.clone()), num_tokens)
    changed, other = _watched_call(adapter, index, *port.given(args, kwargs, layout.from_rows(rows)), num_tokens)
    mixing = [
        path
        for path, (taken, returned) in plain.items()
        if path in changed
        and _changed_tokens(taken, changed[path][0]) == [0]
        and _changed_tokens(returned, changed[path][1]) not in ([0], [])
    ]
    outermost = tuple(path for path in mixing if not any(path.startswith(f"{outer}.") for outer in mixing))
    reached = _changed_tokens(layout.to_rows(left)[0], layout.to_rows(other)[0])
    called = " ".join(f"{path} {type(adapter.blocks[index].get_submodule(path)).__name__}" for path in outermost)
    recurrence: MixerKind = "linear attention"
    recurrence = next((kind for kind, names in _RECURRENCES.items() if names.search(called)), recurrence)
    return Mixing(reach=max(reached, default=0) + 1, modules=outermost, recurrence=recurrence)


def _watched_call(
    adapter: ModelAdapter, index: int, args: tuple[Any, ...], kwargs: dict[str, Any], num_tokens: int
) -> tuple[dict[str, tuple[torch.Tensor, torch.Tensor]], torch.Tensor]:
    """(path of a module -> its (T, ..) input and output, hidden state left) of one call of a block."""
    block = adapter.blocks[index]
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def by_token(values: torch.Tensor) -> torch.Tensor:
        layout = Layout.of(values, num_tokens)
        assert layout is not None
        return layout.to_rows(values)[0].clone()

    def watch(path: str) -> Any:
        def hook(_: Any, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            taken = next((value for _, value in candidates_in(given, named, num_tokens)), None)
            returned = next((value for _, value in candidates_out(output, num_tokens)), None)
            if taken is not None and returned is not None:
                seen[path] = by_token(taken), by_token(returned)

        return hook

    with ExitStack() as stack:
        for path, module in block.named_modules():
            if path:
                stack.callback(module.register_forward_hook(watch(path), with_kwargs=True).remove)
        output = block(*args, **kwargs)
    return seen, adapter.paths.ports[index].left(output)


def _changed_tokens(before_TX: torch.Tensor, after_TX: torch.Tensor) -> list[int]:
    """Tokens at which two values differ by more than rounding."""
    difference = (before_TX.float() - after_TX.float()).abs().amax(-1)
    unit = torch.finfo(before_TX.dtype).eps * before_TX.float().abs().max()
    return difference.gt(32 * unit).nonzero().flatten().tolist()


def window_of(config: PreTrainedConfig, path: str) -> int | None:
    """The number of positions that a block's attention is limited to, as the config states it; None without a limit.

    Too long to be seen in a short probe. On tiny models, whose windows are short, it is held against `Mixing.reach`.

    Args:
        config: of the model's text part.
        path: of the block; its last component is its number in the stack.
    """
    stated = [value for name in WINDOW_NAMES if type(value := getattr(config, name, None)) is int]
    if not stated or getattr(config, "use_sliding_window", True) is False:
        return None
    number = int(path.rpartition(".")[2])
    kinds = next((v for name in _KIND_NAMES if isinstance(v := getattr(config, name, None), list | tuple)), ())
    if len(kinds) > number and any(_UNLIMITED.search(kind) for kind in kinds):
        return None if _UNLIMITED.search(kinds[number]) else stated[0]
    return stated[0]
