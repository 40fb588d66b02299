"""Every causal-LM model type of transformers, put through what any model goes through, on a tiny seeded instance.

A type passes if its instance, saved and loaded like any checkpoint, is seen right (`models.validate`), has its
parameters and the cost of every block counted, and can be traced and scored. Each of the others has the reason in its
row, and what that reason comes down to. Whether a type that passes can be decoded with early exit, and how, is what
`decode.trial` finds.

The FLOPs reckoned for a decoded token are held against those that torch's own counter sees, on another code path
(eager attention, experts one by one) and at another context length than they were found at.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from exitbench.api import trace
from exitbench.config import TraceOptions
from exitbench.decode.abilities import Abilities
from exitbench.decode.stack import Stack
from exitbench.decode.trial import find_abilities
from exitbench.errors import DecodeError, ExitbenchError
from exitbench.models.adapter import ModelAdapter
from exitbench.models.discover import probe_ids
from exitbench.models.load import LoadedModel, load
from exitbench.models.products import Products
from exitbench.models.shape import ModelKind
from exitbench.models.strict import one_line, quiet_transformers
from exitbench.models.tiny import causal_model_types
from exitbench.models.toy import save_toy
from exitbench.progress import SILENT, Progressor
from exitbench.score import score
from exitbench.workloads import Sample, Workload

__all__ = ["CONTEXT", "NOT_DECODED", "UNSUPPORTED", "MatrixRow", "check_all", "check_type"]

Cause = Literal["not causal", "images or audio", "no stack of blocks", "transformers"]

_SAYS_SO = "an answer generated with the cache does not have the logits of one pass over it: "
_POSITIONS = _SAYS_SO + "generate() numbers positions from 0, the model itself from its padding id + 1"

UNSUPPORTED: dict[str, tuple[Cause, str]] = {
    "blt": ("transformers", "generate() asks the config for num_hidden_layers, which a byte-patch model does not have"),
    "camembert": ("transformers", _POSITIONS),
    "cpmant": ("not causal", "every token of a prompt sees all of it"),
    "data2vec-text": ("transformers", _POSITIONS),
    "emu3": ("transformers", "its text model, saved, has a config that the auto classes do not know"),
    "gemma3n": ("images or audio", "its image tower needs timm and pillow; gemma3n_text passes"),
    "gemma4_assistant": ("no stack of blocks", "a draft head: it reads the keys and values of another model"),
    "gemma4_unified_assistant": ("no stack of blocks", "a draft head: it reads the keys and values of another model"),
    "hrm_text": ("no stack of blocks", "two stacks take turns, and each adds to the other's state"),
    "inkling2_text": ("no stack of blocks", "what follows the last block reads the states of earlier blocks too"),
    "mllama": (
        "images or audio",
        "some of its blocks run on images only, and its text config is known to no auto class",
    ),
    "moshi": ("transformers", _SAYS_SO + "the cache has a sliding window, the pass without cache has none"),
    "musicgen": ("images or audio", "writes audio codes, and is not built from its own config by the auto class"),
    "musicgen_melody": (
        "images or audio",
        "writes audio codes, and is not built from its own config by the auto class",
    ),
    "prophetnet": ("not causal", "predicts several tokens in streams laid out along the sequence"),
    "reformer": ("no stack of blocks", "reversible blocks hand on two hidden states"),
    "roberta": ("transformers", _POSITIONS),
    "roberta-prelayernorm": ("transformers", _POSITIONS),
    "xlm": ("no stack of blocks", "attention, norms and MLP of a block lie in lists of their own"),
    "xlm-roberta": ("transformers", _POSITIONS),
    "xlm-roberta-xl": ("transformers", _POSITIONS),
    "xlnet": ("not causal", "every token sees all others; the order of prediction is drawn"),
    "xmod": ("transformers", _POSITIONS),
}
"""Why the types that do not pass do not, for each of them; a test holds it against what happens."""

_NO_CACHE = "its forward takes no cache"
_OWN_CACHE = "insists on a cache class of its own"
_OTHERS = "its blocks take what other blocks computed for the same tokens: "

NOT_DECODED: dict[str, str] = {
    "gemma3n_text": _OTHERS + "keys and values",
    "hy_v4": _OTHERS + "the positions that an indexer chose",
    "minimax": _OWN_CACHE,
    "openai-gpt": _NO_CACHE,
    "rwkv": _NO_CACHE + ", its state is in a list of its own",
    "xlstm": _OWN_CACHE,
    "zaya": _OTHERS + "the router's state",
}
"""Why the types that pass and cannot be decoded with early exit cannot; a test holds it against what happens."""

_PROMPTS = Workload(
    name="three words",
    version="1",
    licence=None,
    kind="prompts",
    samples=tuple(Sample(id=word, category="words", turns=(word,)) for word in ("one", "seven", "thirteen")),
)
_NEW_TOKENS = 4
_COUNTED_OTHERWISE = {
    "gpt_neo": "aten.bmm on positions that the mask of a local block removes",
}
"""Types in which plain matrix products do more than a decoded token needs."""
CONTEXT = 22
"""Positions at which FLOPs are compared: more than any tiny model's window."""


@dataclass(frozen=True, kw_only=True)
class MatrixRow:
    """Whether exitbench can measure one model type."""

    model_type: str
    passed: bool
    reason: str | None
    """Why not, as it showed itself; None where it passed."""
    cause: str | None = None
    """What that comes down to; None where it passed, and where it is not known."""
    kind: ModelKind | None = None
    blocks: tuple[str, ...] = ()
    """The kinds of its blocks, each once."""
    quirks: tuple[str, ...] = ()
    """What a naive readout or count would get wrong."""
    ees: float | None = None
    """EES of the untrained instance: shows that a score comes out, and means nothing else."""
    counter_flops_ratio: float | None = None
    """FLOPs of a decoded token in the blocks, reckoned over counted by torch; None if torch misses an operation."""
    counter_misses: tuple[str, ...] = ()
    """Operations that torch's counter does not see and exitbench reckons with."""
    completion_unknown: str | None = None
    """Why it was not observed what its skipped blocks would still have to compute; None where it was."""
    decode: bool | None = None
    """Whether it can be decoded with early exit; None where it did not pass."""
    lossless: bool | None = None
    """Whether drafts can be checked and taken back; None where it did not pass."""
    decode_reason: str | None = None
    """Why not, of whichever is not possible, as it showed itself; None where both are."""
    decode_cause: str | None = None
    """What it comes down to that it cannot be decoded; None where it can, and where that is not known."""
    decode_limits: tuple[str, ...] = ()
    """What costs time when it is decoded."""


def check_all(*, progress: Progressor = SILENT) -> list[MatrixRow]:
    """One row for each of transformers' causal model types."""
    model_types, rows = causal_model_types(), []
    with progress.bar("Checking model types", len(model_types)) as advance:
        for model_type in model_types:
            rows.append(check_type(model_type))
            advance(1)
    return rows


def check_type(model_type: str) -> MatrixRow:
    """Put a tiny instance of one model type through load, trace and score."""
    cause, why = UNSUPPORTED.get(model_type, (None, None))
    try:
        with tempfile.TemporaryDirectory() as folder, quiet_transformers():
            return _checked(model_type, Path(folder))
    except ExitbenchError as error:
        reason = str(error)
    except Exception as error:  # code of any model type may fail in any way, and that is what is looked for
        reason = f"transformers cannot build or save a tiny instance: {type(error).__name__}: {one_line(error)}"
    return MatrixRow(model_type=model_type, passed=False, reason=reason, cause=cause and f"{cause}: {why}")


def _checked(model_type: str, folder: Path) -> MatrixRow:
    loaded = load(str(save_toy(folder / model_type, model_type, num_blocks=None)))
    shape = loaded.shape
    assert shape.parameters.total == shape.num_parameters
    traced = trace(loaded, _PROMPTS, out=folder / "trace", options=TraceOptions(max_new_tokens=_NEW_TOKENS))
    if traced.failures:
        raise ExitbenchError(f"{len(traced.failures)} samples failed, the first with: {traced.failures[0].reason}")
    ees = score(traced, draws=100).ees
    quirks = loaded.adapter.paths.quirks
    quirks += () if loaded.can_pad else ("padding changes answers, so prompts are answered one by one",)
    misses = tuple(sorted(_missed_by_counter(model_type, loaded)))
    return MatrixRow(
        model_type=model_type,
        passed=True,
        reason=None,
        kind=shape.kind,
        blocks=tuple(dict.fromkeys(block.kind for block in shape.blocks)),
        quirks=quirks,
        ees=ees.value,
        counter_flops_ratio=None if misses else _flops_ratio(loaded),
        counter_misses=misses,
        completion_unknown=next((block.completion_reason for block in shape.blocks if block.completion_reason), None),
        **_decoding(model_type, loaded),
    )


def _decoding(model_type: str, loaded: LoadedModel) -> dict[str, Any]:
    """Those columns that say whether and how a model is decoded."""
    try:
        found = find_abilities(loaded, Stack(loaded.adapter))
    except DecodeError as error:
        reason = {"decode_reason": _clause(loaded, str(error)), "decode_cause": NOT_DECODED.get(model_type)}
        return {"decode": False, "lossless": False, **reason}
    return {
        "decode": True,
        "lossless": found.rolls_back,
        "decode_reason": None if found.rolls_back else "its blocks cannot be put back to an earlier state",
        "decode_limits": tuple(_limits(found)),
    }


def _clause(loaded: LoadedModel, message: str) -> str:
    """The refusal of a decoder in one clause, without what all refusals say."""
    name = type(loaded.model).__name__
    clause = message.removeprefix(f"{name} cannot be decoded with early exit: ").removeprefix(f"{name} ")
    return clause.partition(", and cannot be decoded")[0]


def _limits(found: Abilities) -> Iterator[str]:
    if not all(found.chunks):
        which = "some blocks" if any(found.chunks) else "all blocks"
        yield f"{which} take waiting tokens one by one"
    if not found.separates_rows:
        yield "prompts are decoded one by one"
    if any(how.num_writes is None for how in found.writes):
        which = "all" if all(how.num_writes is None for how in found.writes) else "some"
        yield f"{which} blocks run whole for their state alone"


@contextmanager
def _plainly_computed(model: Any) -> Iterator[None]:
    """Run attention and experts by plain matrix products, which torch's counter knows."""
    attention, experts = model.config._attn_implementation, model.config._experts_implementation
    try:
        model.set_attn_implementation("eager")
        model.set_experts_implementation("eager")
        yield
    finally:
        model.set_attn_implementation(attention)
        model.set_experts_implementation(experts)


def _missed_by_counter(model_type: str, loaded: LoadedModel) -> Iterator[str]:
    """Operations that torch's counter passes over, or counts although a decoded token does not need them."""
    adapter, blocks = loaded.adapter, loaded.shape.blocks
    products = Products(adapter.model)
    with _plainly_computed(adapter.model), products.watching():
        adapter.answer(probe_ids(adapter.model, 4), num_tokens=2)
    yield from (str(packet) for packet in products.seen if packet not in flop_registry)
    if products.has_idle_rows:
        yield "aten.bmm on rows of zeros, which are no work"
    if any(block.state_bytes for block in blocks):
        yield "element-wise update of a state"
    if any(block.fixed_flops is None for block in blocks):
        yield "no cache: every token runs all positions again"
    if model_type in _COUNTED_OTHERWISE:
        yield _COUNTED_OTHERWISE[model_type]


def _flops_ratio(loaded: LoadedModel) -> float:
    """FLOPs of a token decoded at a context of `CONTEXT`, as reckoned from the anatomy over as counted by torch."""
    with _plainly_computed(loaded.model):
        counted = _counted_flops(loaded.adapter, 3) - _counted_flops(loaded.adapter, 2)
    return sum(block.decode_flops(CONTEXT) or 0 for block in loaded.shape.blocks) / counted


def _counted_flops(adapter: ModelAdapter, num_tokens: int) -> int:
    """FLOPs in the blocks, by torch's counter, while an answer is written; the last token ends at `CONTEXT` of 3."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        adapter.answer(probe_ids(adapter.model, CONTEXT - 2), num_tokens=num_tokens)
    root = type(adapter.model).__name__
    counts = counter.get_flop_counts()
    return sum(sum(counts.get(f"{root}.{path}", {}).values()) for path in dict.fromkeys(adapter.paths.blocks))
