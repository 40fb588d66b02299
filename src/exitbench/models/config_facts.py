"""Facts of a model that the catalogue does not list, as far as its config and its counted sizes tell them.

What a config does not say is None, never guessed: stage, generation and release month always, the kind of a model
whose blocks are neither listed in its config nor plainly attention, parameters in use where there are experts.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from exitbench.models.catalogue import Kind, ModelFacts, catalogue
from exitbench.models.shape import ModelShape

__all__ = ["facts_from_config", "facts_of"]

_RECURRENT_TYPES = frozenset({"mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm"})
"""Model types that are recurrent throughout, for configs that do not list their blocks."""
_RECURRENT_BLOCKS = frozenset({"linear_attention", "mamba", "recurrent"})
_BOTH_IN_ONE = frozenset({"hybrid", "hybrid_sliding"})
_FEED_FORWARD = frozenset({"moe", "mlp"})
_BLOCK_LISTS = ("layer_types", "layers_block_type", "block_types")
_HEADS = ("num_attention_heads", "n_head", "n_heads")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_OTHER_MIXER = re.compile("mamba|ssm|state_size|conv|linear_attn|recurrent|lru")


def facts_of(hub_id: str | None, config: Any, shape: ModelShape) -> ModelFacts:
    """The facts of a loaded model: from the catalogue where it is listed, else from its config.

    Args:
        hub_id: id on the hub of the weights, or of those they were made from; None if unknown.
        config: transformers' config of the loaded model.
        shape: sizes counted on it.
    """
    listed = catalogue().find(hub_id) if hub_id else None
    return listed or facts_from_config(config, shape, hub_id=hub_id)


def facts_from_config(config: Any, shape: ModelShape, *, hub_id: str | None = None) -> ModelFacts:
    """What the config and the counted sizes of an unlisted model say of it.

    Args:
        config: transformers' config, or the dict of a config.json; the latter lacks what transformers derives from it,
            so that less may be known.
        shape: sizes counted on the loaded weights.
        hub_id: id on the hub; None for weights from elsewhere.
    """
    settings, blocks, model_type = _decoder_settings(config)
    experts = _has_experts(settings)
    kind = _kind(settings, blocks, model_type, experts=experts)
    total = shape.num_parameters / 1e9
    return ModelFacts(
        hub_id=hub_id,
        origin="config",
        family=model_type,
        total_params_b=total,
        active_params_b=None if experts or kind is None else total,
        num_blocks=shape.num_blocks,
        hidden_size=shape.hidden_size,
        vocab_size=shape.vocab_size,
        kind=kind,
    )


def _decoder_settings(config: Any) -> tuple[Mapping[str, Any], list[str] | None, str | None]:
    """Settings of the language model in `config`, the types of its blocks if listed, and the model type."""
    if isinstance(config, Mapping):
        settings = config.get("text_config", config)
        blocks = next((settings[name] for name in _BLOCK_LISTS if settings.get(name)), None)
        return settings, blocks, config.get("model_type")
    decoder = config.get_text_config(decoder=True)
    # Many classes derive the list instead of storing it.
    blocks = next((found for name in _BLOCK_LISTS if (found := getattr(decoder, name, None))), None)
    return decoder.to_dict(), blocks, config.model_type


def _kind(
    settings: Mapping[str, Any], blocks: Iterable[str] | None, model_type: str | None, *, experts: bool
) -> Kind | None:
    attention: Kind = "moe" if experts else "dense"
    if blocks is None:
        if model_type in _RECURRENT_TYPES:
            return "ssm"
        only_attention = any(name in settings for name in _HEADS) and not any(map(_OTHER_MIXER.search, settings))
        return attention if only_attention else None
    mixers = set(blocks) - _FEED_FORWARD
    attending = {name for name in mixers - _RECURRENT_BLOCKS if name.endswith("attention")}
    others = mixers - attending - _RECURRENT_BLOCKS - _BOTH_IN_ONE - {"conv"}
    if others or not mixers:
        return None
    if mixers == attending:
        return attention
    if mixers <= _RECURRENT_BLOCKS:
        return "ssm"
    return "hybrid" if attending or mixers & _BOTH_IN_ONE else None


def _has_experts(settings: Mapping[str, Any]) -> bool:
    """Whether any block chooses among experts; some configs keep their number one level down."""
    if settings.get("is_moe") is False:  # a number of experts that is not in use
        return False
    for group in (settings, *(value for value in settings.values() if isinstance(value, Mapping))):
        numbers = [group[name] for name in _EXPERTS if isinstance(group.get(name), int | list)]
        if any((max(n, default=0) if isinstance(n, list) else n) > 1 for n in numbers):
            return True
    return False
