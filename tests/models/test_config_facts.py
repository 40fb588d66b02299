"""Facts of models that the table does not list, from tiny configs of transformers; nothing is downloaded."""

from typing import Any

import pytest
from transformers import AutoConfig

from exitbench.models.catalogue import ModelFacts, catalogue
from exitbench.models.config_facts import facts_from_config, facts_of
from exitbench.models.shape import ModelShape

SHAPE = ModelShape(
    num_blocks=3,
    hidden_size=32,
    vocab_size=259,
    num_parameters=1_234_567,
    block_costs=(0.5, 0.25, 0.25),
    block_weights=(2, 1, 1),
    head_weights=1,
)
TINY = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 259}
EXPERTS = {"num_experts_per_tok": 2, "num_local_experts": 4}
MAMBA = {"mamba_n_heads": 4, "num_local_experts": 0}
MIXED = ["linear_attention", "linear_attention", "linear_attention", "full_attention"]


def _config(model_type: str, **changes: Any) -> Any:
    return AutoConfig.for_model(model_type, **changes)


@pytest.mark.parametrize(
    ("model_type", "changes", "kind", "experts"),
    [
        ("llama", TINY, "dense", False),
        ("gpt2", {"n_layer": 2, "n_head": 2, "n_embd": 8}, "dense", False),
        ("gemma3_text", TINY, "dense", False),
        ("gemma3", {"text_config": TINY}, "dense", False),
        ("doge", TINY, "dense", False),
        ("doge", TINY | {"is_moe": True}, "moe", True),
        ("mixtral", TINY | EXPERTS, "moe", True),
        ("mixtral", TINY | EXPERTS | {"num_local_experts": 1}, "dense", False),
        ("qwen2_moe", TINY, "moe", True),
        ("deepseek_v3", TINY, "moe", True),
        ("dbrx", {}, "moe", True),
        ("mamba", {"hidden_size": 32, "num_hidden_layers": 2}, "ssm", False),
        ("mamba2", {"hidden_size": 32, "num_hidden_layers": 2, "num_heads": 4, "head_dim": 16}, "ssm", False),
        ("falcon_mamba", {"hidden_size": 32, "num_hidden_layers": 2}, "ssm", False),
        ("rwkv", {"hidden_size": 32, "num_hidden_layers": 2}, "ssm", False),
        ("xlstm", {}, "ssm", False),
        ("recurrent_gemma", TINY, "hybrid", False),
        ("jamba", TINY | {"num_hidden_layers": 8}, "hybrid", True),
        ("zamba2", {}, "hybrid", False),
        ("falcon_h1", {}, "hybrid", False),
        ("nemotron_h", {}, "hybrid", True),
        ("olmo_hybrid", TINY | {"layer_types": MIXED}, "hybrid", False),
        ("qwen3_next", TINY | {"layer_types": MIXED}, "hybrid", True),
        ("bamba", TINY | MAMBA | {"attn_layer_indices": [1]}, "hybrid", False),
        ("granitemoehybrid", TINY | MAMBA | {"layer_types": MIXED}, "hybrid", False),
        ("granitemoehybrid", TINY | MAMBA | {"layer_types": ["full_attention"] * 4}, "dense", False),
        ("granitemoehybrid", TINY | MAMBA | {"layer_types": ["linear_attention"] * 4}, "ssm", False),
        ("lfm2", TINY | {"layer_types": ["conv", "full_attention"] * 2}, "hybrid", False),
        ("lfm2", TINY | {"layer_types": ["conv"] * 4}, None, False),
        ("gpt_neo", {}, None, False),
    ],
)
def test_kind_as_far_as_a_config_tells(
    model_type: str, changes: dict[str, Any], kind: str | None, experts: bool
) -> None:
    """Bug: a hybrid taken for dense, experts that are switched off counted, or a kind made up where nothing says it."""
    facts = facts_from_config(_config(model_type, **changes), SHAPE)
    assert (facts.family, facts.kind) == (model_type, kind)
    assert facts.active_params_b == (None if experts or kind is None else facts.total_params_b)


def test_what_a_config_does_not_say_is_unknown() -> None:
    """Bug: a stage guessed from a chat template, or sizes read from the config where others were counted."""
    facts = facts_from_config(_config("llama", **TINY), SHAPE, hub_id="org/mine")
    assert facts == ModelFacts(
        hub_id="org/mine",
        origin="config",
        family="llama",
        total_params_b=0.001234567,
        active_params_b=0.001234567,
        num_blocks=3,
        hidden_size=32,
        vocab_size=259,
        kind="dense",
    )
    assert facts.verified_only() == facts


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"model_type": "llama", **TINY}, "dense"),
        ({"model_type": "mixtral", **TINY, **EXPERTS}, "moe"),
        ({"model_type": "mamba", "hidden_size": 32, "state_size": 16}, "ssm"),
        ({"model_type": "olmo_hybrid", **TINY, "layer_types": MIXED}, "hybrid"),
        ({"model_type": "granitemoehybrid", **TINY, "layer_types": ["mamba", "attention"] * 2}, "hybrid"),
        ({"model_type": "nemotron_h", **TINY, "layers_block_type": ["mamba", "moe", "attention", "mlp"]}, "hybrid"),
        ({"model_type": "recurrent_gemma", **TINY, "block_types": ["recurrent", "recurrent", "attention"]}, "hybrid"),
        ({"model_type": "gemma3", "text_config": TINY}, "dense"),
        ({"model_type": "jamba", **TINY, "attn_layer_period": 8, "mamba_d_state": 16}, None),
        ({"model_type": "new", **TINY, "layer_types": ["full_attention", "wormhole"]}, None),
        ({"model_type": "new", "num_heads": 4}, None),
        ({"model_type": "new", **TINY, "num_experts": [1, 8, 8, 8]}, "moe"),
        ({"model_type": "new", **TINY, "num_experts": "many"}, "dense"),
        ({}, None),
    ],
)
def test_plain_config_json(config: dict[str, Any], kind: str | None) -> None:
    """Bug: a config.json that transformers does not know ends a trace, or is filled up with guesses."""
    facts = facts_from_config(config, SHAPE)
    assert (facts.family, facts.kind) == (config.get("model_type"), kind)


def test_listed_models_keep_what_the_table_says() -> None:
    """Bug: what is known of a model thrown away for what its config says, or the reverse for an unlisted one."""
    config = _config("llama", **TINY)
    assert facts_of("EleutherAI/Pythia-70M", config, SHAPE) is catalogue().find("EleutherAI/pythia-70m")
    unlisted = facts_of("org/mine", config, SHAPE)
    assert (unlisted.origin, unlisted.hub_id) == ("config", "org/mine")
    assert facts_of(None, config, SHAPE).hub_id is None
