"""Tiny configs of every causal-LM model type that transformers knows.

A config class is asked for its defaults, and every size among them is replaced by a small one: by its name, the same
for all types. Lists with one entry a block are cut so that every kind of block stays. What this rule gets wrong for a
type stands in `EXCEPTIONS`, as data. The instances are what transformers builds for anybody, so whatever is shown on
them holds for the code of the real models, though not for their sizes.

Non-goals: weights (see `toy`), tokenisers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from exitbench.models.discover import BLOCK_COUNTS
from exitbench.models.mixing import WINDOW_NAMES

__all__ = ["causal_model_types", "tiny_config"]


# Every size that occurs in a config, by name.
_NAMES_BY_SIZE = {
    32: """
        hidden_size d_model n_embd emb_dim embedding_dim embedding_size lru_width moe_intermediate_size
        shared_expert_intermediate_size shared_intermediate_size expert_ffn_hidden_size
        moe_shared_expert_intermediate_size shared_experts_intermediate_size output_embedding_size
        hidden_size_global adapter_in_dim adapter_out_dim adapter_input_size input_embedding_size
        pronunciation_embed_dim shape_embed_dim router_hidden_size
    """,
    64: """
        intermediate_size n_inner ffn_dim encoder_ffn_dim decoder_ffn_dim dff dim_ff d_inner ffn_hidden_size
        intermediate_size_mlp dense_intermediate_size feed_forward_size mamba_d_ssm
    """,
    4: """
        num_attention_heads n_head n_heads num_heads attention_heads swa_num_attention_heads encoder_attention_heads
        decoder_attention_heads num_encoder_attention_heads num_decoder_attention_heads linear_num_value_heads
        linear_num_heads num_experts num_local_experts n_routed_experts moe_num_experts rotary_dim mamba_dt_rank
        time_step_rank
    """,
    2: """
        num_key_value_heads num_kv_heads n_head_kv swa_num_key_value_heads linear_num_key_heads n_mamba_heads
        num_global_key_value_heads o_groups num_experts_per_tok num_experts_per_token moe_topk moe_top_k moe_k
        top_k_experts zero_expert_num
    """,
    8: """
        head_dim kv_channels d_head dim_head attention_head_dim attention_head_size swa_head_dim global_head_dim
        qk_rope_head_dim qk_nope_head_dim v_head_dim index_head_dim linear_key_head_dim linear_value_head_dim
        mamba_d_state state_size ssm_state_size mamba_n_heads mamba_d_head mamba_headdim mamba_head_dim
        mamba_num_heads query_pre_attn_scalar hidden_size_per_layer_input laurel_rank chunk_size mamba_chunk_size
        index_n_heads linear_head_dim patch_size
    """,
    16: """
        qk_head_dim kv_lora_rank q_lora_rank o_lora_rank image_size hc_lowrank ple_embed_dim
    """,
    1: """
        n_group topk_group num_expert_group num_expert_groups n_groups mamba_n_groups mamba_ngroups n_shared_experts
        num_shared_experts moe_num_shared_experts
    """,
    2048: """
        max_position_embeddings n_positions context_length max_seq_len max_target_positions
    """,
    259: """
        vocab_size vocab_size_per_layer_input pronunciation_vocab_size shape_vocab_size
    """,
}
# Shorter than the probe, so that windows are seen to matter.
_WINDOWS = (*WINDOW_NAMES, "local_attention")
# Longer than the probe: of few scores many are tied at zero, and which of those are chosen is arbitrary.
_CHOSEN = ("index_topk", "indexer_budget")
_SIZES: dict[str, int] = (
    {name: size for size, names in _NAMES_BY_SIZE.items() for name in names.split()}
    | dict.fromkeys(_WINDOWS, 8)
    | dict.fromkeys(_CHOSEN, 64)
)
# Sizes that many classes leave open and derive from the others, or fail to.
_OFTEN_OPEN = ("head_dim", "num_key_value_heads")

_MAMBA_HYBRID = ["linear_attention", "full_attention", "linear_attention", "full_attention"]

EXCEPTIONS: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1, 3]},
    # Two kinds of rotary embedding, and no default for either.
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 10_000.0} for kind in ("full_attention", "sliding_attention")
        },
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10_000.0, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": {"num_experts_per_tok": 2, "first_k_dense_replace": 1},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1},
    "dots3_note_text": {
        **{"swa_num_attention_heads": 4, "swa_num_key_value_heads": 4, "swa_q_lora_rank": 16, "swa_kv_lora_rank": 16},
        **{"swa_head_dim": 16, "swa_qk_nope_head_dim": 8, "swa_v_head_dim": 8},
    },
    "gemma3_text": {"num_key_value_heads": 1, "final_logit_softcapping": 5.0},
    # Shared blocks take keys and values of an earlier block of the same kind.
    "gemma3n_text": {
        "num_hidden_layers": 5,
        "layer_types": [*["sliding_attention", "full_attention"] * 2, "sliding_attention"],
        "num_kv_shared_layers": 2,
        "activation_sparsity_pattern": [0.5] * 5,
        "intermediate_size": 64,
    },
    "gemma4_text": {"global_head_dim": 16},
    "gemma4_unified_text": {"global_head_dim": 16},
    "granitemoehybrid": {"layer_types": _MAMBA_HYBRID},
    "hunyuan_v1_moe": {"num_experts": 4, "moe_topk": 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 1},
    "llama": {"tie_word_embeddings": True},
    "llama4_text": {"moe_layers": [1, 3]},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    # Time steps below the least are raised to it in a whole pass and not in a cached one.
    "nemotron_h": {"layers_block_type": ["mamba", "moe", "attention", "mlp"], "time_step_min": 1e-9},
    "opt": {"word_embed_proj_dim": 16},
    "qwen2_moe": {"mlp_only_layers": [0]},
    "qwen4_exp_text": {
        "indexer_n_heads": 8,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 64,
        "indexer_compress_ratio": 4,
    },
    "reformer": {
        "attn_layers": ["local", "lsh"] * 2,
        "axial_pos_shape": [8, 8],
        "axial_pos_embds_dim": [16, 16],
    },
    "rwkv": {"attention_hidden_size": 32, "rescale_every": 2},
    "xlm": {"causal": True},
    "xlstm": {"hidden_size": 64, "embedding_dim": 64, "qk_dim_factor": 1.0},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "num_hidden_layers": 6,
        "layers_block_type": ["linear_attention", "hybrid"] * 3,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
    },
    "zamba2": {
        "num_hidden_layers": 6,
        "layers_block_type": ["linear_attention", "hybrid"] * 3,
        "n_mamba_heads": 8,
        "time_step_min": 1e-9,
    },
    "zaya": {"num_experts_per_tok": 1},
}


def causal_model_types() -> tuple[str, ...]:
    """Every model type of transformers' causal-LM auto mapping, sorted."""
    return tuple(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))


def tiny_config(model_type: str, *, num_blocks: int | None = None, **changes: Any) -> PreTrainedConfig:
    """A config of `model_type` whose model has a few thousand parameters a block.

    Args:
        model_type: as in transformers' auto mapping.
        num_blocks: L; None for four, or as many as show every kind of block.
        changes: settings of the config, or of its text config where it has one.

    Raises:
        Exception: whatever transformers raises where it cannot build such a config.
    """
    config_class = CONFIG_MAPPING[model_type]
    settings = _tiny_settings(config_class(), num_blocks)
    if "text_config" in settings:
        settings["text_config"] = _merged(settings["text_config"], changes)
    else:
        settings = _merged(settings, changes)
    config: PreTrainedConfig = config_class(**settings)
    return config


def _tiny_settings(config: PreTrainedConfig, num_blocks: int | None) -> dict[str, Any]:
    """Arguments for the class of `config`, nested configs included."""
    defaults = config.to_dict()
    counts = {name: defaults[name] for name in BLOCK_COUNTS if isinstance(defaults.get(name), int)}
    depth = max(counts.values(), default=0)
    per_block = {k: v for k, v in defaults.items() if isinstance(v, list) and depth > 0 and len(v) == depth}
    kept = _kept_blocks(list(per_block.values()), num_blocks or 4)
    settings: dict[str, Any] = {name: len(kept) for name in counts}
    settings |= {name: [entries[i] for i in kept] for name, entries in per_block.items()}
    for name, value in defaults.items():
        nested = config.__dict__.get(name)
        if isinstance(nested, PreTrainedConfig):
            settings[name] = {"model_type": nested.model_type, **_tiny_settings(nested, num_blocks)}
        elif name in _SIZES and name not in settings and (type(value) is int or name in _OFTEN_OPEN):
            settings[name] = _SIZES[name]
    if "qk_nope_head_dim" in defaults:  # multi-head latent attention has as many heads of keys as of queries
        settings["num_key_value_heads"] = _SIZES["num_attention_heads"]
    # An encoder that can be a decoder is one here.
    settings |= {"is_decoder": True} if "is_decoder" in defaults else {}
    exceptions = EXCEPTIONS.get(config.model_type, {})
    return _merged(settings, exceptions if num_blocks is None else _cut(exceptions, num_blocks))


def _kept_blocks(per_block: Sequence[Sequence[Any]], wanted: int) -> list[int]:
    """Indices of the blocks kept: the first of each kind, then others in order; of fewer blocks always the first."""
    if not per_block:
        return list(range(wanted))
    kinds = [repr(kind) for kind in zip(*per_block, strict=True)]
    first = sorted({kind: i for i, kind in reversed(list(enumerate(kinds)))}.values())
    others = [i for i in range(len(kinds)) if i not in first]
    return (first + others)[:wanted]


def _cut(exceptions: dict[str, Any], num_blocks: int) -> dict[str, Any]:
    """Exceptions for another number of blocks: lists a block repeated or cut."""
    length = exceptions.get("num_hidden_layers", 4)
    cut = {
        name: [value[i % length] for i in range(num_blocks)]
        if isinstance(value, list) and len(value) == length
        else value
        for name, value in exceptions.items()
    }
    return cut | ({"num_hidden_layers": num_blocks} if "num_hidden_layers" in exceptions else {})


def _merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(settings)
    for name, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = _merged(merged[name], value) if both else value
    return merged
