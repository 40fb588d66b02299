"""Load a resolved model with transformers, or say in one line why not.

transformers is lenient where a measurement must not be: it fills missing tensors with random numbers, takes
generation settings from the checkpoint, and asks on the terminal whether it may run remote code. Each of
these is settled here.

Weights are read once, straight to where they wait (see `placement`). On the CPU they are mapped from their files, and
copied only where they are cast.

Non-goals: finding the blocks or proving the readout (see `validate`), quantising.
"""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
)

from exitbench.errors import ModelError
from exitbench.models.cache import lacking_tokenizer_file
from exitbench.models.placement import settle, weights_wait_on
from exitbench.models.source import ModelSource
from exitbench.models.spill import spill_folder
from exitbench.models.strict import LOAD_ERRORS, load_weights, one_line, quiet_transformers

__all__ = ["check_attention", "clean_generation_config", "load_pretrained"]


def check_attention(attention: str | None) -> None:
    """Refuse what is no attention implementation, e.g. "eager" or "sdpa"; None is transformers' default.

    Kernels named by a repository are refused too: they are code from the hub.

    Raises:
        ModelError: names those there are.
    """
    known = ["eager", *(name for name in ALL_ATTENTION_FUNCTIONS.valid_keys() if "|" not in name)]
    if attention is not None and attention not in known:
        raise ModelError(f"--attention is {attention!r}, expected one of {', '.join(sorted(known))}")


def load_pretrained(
    source: ModelSource,
    *,
    dtype: torch.dtype | None,
    placement: Mapping[str, Any],
    attention: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokeniser for inference.

    Args:
        source: from `resolve`.
        dtype: of the weights; None is the checkpoint's own (float32 for GGUF).
        placement: from `placement_options`.
        attention: as checked by `check_attention`; None is transformers' default.
        trust_remote_code: run Python code that comes with the checkpoint.

    Returns:
        The model in evaluation mode without gradients, set to plain greedy generation, and its tokeniser
        padding on the left.

    Raises:
        ModelError: not a causal language model, unknown to transformers, incomplete, or not to be run like this.
    """
    config = _load_config(source, trust_remote_code=trust_remote_code)
    with spill_folder() if placement["device_map"] == "auto" else nullcontext() as spill:
        model = load_weights(
            source.path,
            subject=f"the weights of {source.name}",
            cast=dtype is not None and dtype != config.dtype,
            config=config,
            dtype="auto" if dtype is None else dtype,
            attn_implementation=attention,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            offload_folder=spill and spill.folder,
            **placement,
        )
        if spill:
            spill.keep_for(model)
    settle(model, source.name)
    model.eval().requires_grad_(False)
    tokenizer = _load_tokenizer(source, trust_remote_code=trust_remote_code)
    clean_generation_config(model, tokenizer)
    _check_looks_back(source.name, model)
    return model, tokenizer


def clean_generation_config(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make `generate` plain greedy decoding, whatever the checkpoint says, with padding on the left.

    Only the ids of special tokens are kept. Checkpoints also set repetition penalties, suppressed tokens or
    sampling, under which the answer is no longer what the model's own top-1 says. Where there is no padding
    token, the end token pads; padded positions are masked, so the choice does not reach any figure.
    """
    stated = model.generation_config
    eos = stated.eos_token_id if stated.eos_token_id is not None else tokenizer.eos_token_id
    first_eos = eos[0] if isinstance(eos, list) else eos
    pad = next((i for i in (stated.pad_token_id, tokenizer.pad_token_id, first_eos) if i is not None), 0)
    bos = stated.bos_token_id if stated.bos_token_id is not None else tokenizer.bos_token_id
    greedy: dict[str, Any] = {
        "bos_token_id": bos,
        "eos_token_id": eos,
        "pad_token_id": pad,
        "do_sample": False,
    }
    model.generation_config = GenerationConfig.from_dict(greedy)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad)


def _check_looks_back(name: str, model: PreTrainedModel) -> None:
    """Refuse a model in which a token's logits depend on later tokens, e.g. a BERT not set to decode.

    Causal models give the same logits to the last bit, but for experts whose batches change with the last
    token: a few roundings are allowed for.
    """
    with torch.inference_mode():
        ids = torch.tensor([[3, 4, 5, 6], [3, 4, 5, 7]], device=model.device)
        try:
            logits = model(ids, use_cache=False).logits
        except (RuntimeError, ValueError) as error:  # no room, no kernel for this dtype, a misshapen weight on disk
            raise ModelError(
                f"cannot run {name} on {weights_wait_on(model)}: {one_line(error)}; try another --device, --dtype or "
                "--attention"
            ) from error
        first, second = logits[:, :-1].float()
    limit = max(1e-3, 4 * torch.finfo(model.dtype).eps)
    if (first - second).abs().max() > limit * first.abs().max():
        raise ModelError(f"{name} sees tokens to its right, so it is not a causal language model")


def _load_config(source: ModelSource, *, trust_remote_code: bool) -> PreTrainedConfig:
    """Load the config and refuse what is not a causal language model that may be loaded."""
    path = source.path / "config.json"
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {one_line(error)}; expected a transformers config") from error
    if not isinstance(stated, dict):
        raise ModelError(f"{path} holds a {type(stated).__name__}; expected a transformers config")
    model_type = stated.get("model_type")
    auto_map = stated.get("auto_map", {})
    if not isinstance(auto_map, dict):
        raise ModelError(
            f"{path} has the auto_map {auto_map!r}; expected names of classes, or no such entry: remove it"
        )
    remote = "AutoModelForCausalLM" in auto_map
    if model_type not in CONFIG_MAPPING and not (remote and trust_remote_code):
        reason = (
            "runs Python code of its own; read that code, then pass --trust-remote-code"
            if remote
            else "is an architecture this version of transformers does not know; try to upgrade transformers"
        )
        raise ModelError(f"{source.name} (model_type {model_type!r}) {reason}")
    try:
        with quiet_transformers():
            config: PreTrainedConfig = AutoConfig.from_pretrained(
                source.path, trust_remote_code=trust_remote_code, local_files_only=True
            )
    except LOAD_ERRORS as error:
        raise ModelError(f"cannot use the config of {source.name}: {one_line(error)}") from error
    if not remote:
        _check_causal(source.name, config)
    return config


def _check_causal(name: str, config: PreTrainedConfig) -> None:
    """Refuse encoders: transformers would put a language-model head on some of them."""
    classes = config.architectures or []
    known = {entry for names in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values() for entry in _as_tuple(names)}
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or (classes and not known.intersection(classes)):
        kind = ", ".join(classes) or config.model_type
        raise ModelError(f"{name} ({kind}) is not a causal language model; early exit is measured on decoders only")


def _as_tuple(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def _load_tokenizer(source: ModelSource, *, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    # Without its files transformers makes an empty tokeniser that turns every text into unknown tokens.
    if name := lacking_tokenizer_file(source.path):
        raise ModelError(f"{source.name} has no tokeniser: {source.path} lacks {name}; put it beside the weights")
    try:
        with quiet_transformers():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                source.path, trust_remote_code=trust_remote_code, local_files_only=True
            )
    except LOAD_ERRORS as error:
        raise ModelError(f"cannot load the tokeniser of {source.name}: {one_line(error)}") from error
    return tokenizer
