"""The families of a zoo: models that differ from `dense` in one thing at a time, and the presets that size them.

Every family is built from a configuration of transformers with random weights. Where families are to be compared at
equal cost, their blocks have the same number of active parameters, about 12 width^2 each: attention 4 and gated MLP 8;
two of eight experts of half that MLP; a Mamba-2 mixer of expansion 4; a Mamba-2 mixer or attention, and an MLP.

Non-goals: the best model of a kind. Learning rate, initial scale, batch and order of the data are the same for all.
"""

from collections.abc import Callable
from dataclasses import dataclass

from transformers import (
    BambaConfig,
    GPT2Config,
    LlamaConfig,
    Mamba2Config,
    MixtralConfig,
    PreTrainedConfig,
    Qwen3Config,
)

from early_exit_training import PLAIN, Recipe

__all__ = ["FAMILIES", "PRESETS", "Family", "Preset", "Sizes"]

_HEAD = 32
_INITIAL = 0.02


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What every configuration is made from."""

    vocab_size: int
    width: int
    depth: int
    positions: int
    end_token: int

    @property
    def common(self) -> dict[str, int | float | bool]:
        """Arguments that all configurations know by the same name."""
        return {
            **{"vocab_size": self.vocab_size, "hidden_size": self.width, "num_hidden_layers": self.depth},
            **{"initializer_range": _INITIAL, "tie_word_embeddings": False},
            **{"eos_token_id": self.end_token, "bos_token_id": self.end_token, "pad_token_id": self.end_token},
        }

    @property
    def attention(self) -> dict[str, int | dict[str, float | str]]:
        """Arguments of attention with rotary positions."""
        heads = max(self.width // _HEAD, 1)
        return {
            **{"num_attention_heads": heads, "num_key_value_heads": heads, "max_position_embeddings": self.positions},
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        }


def _llama(sizes: Sizes) -> PreTrainedConfig:
    return LlamaConfig(**sizes.common, **sizes.attention, intermediate_size=_multiple(sizes.width * 8 / 3))


def _mixtral(sizes: Sizes) -> PreTrainedConfig:
    experts = {"num_local_experts": 8, "num_experts_per_tok": 2, "intermediate_size": _multiple(sizes.width * 4 / 3)}
    return MixtralConfig(**sizes.common, **sizes.attention, **experts, router_aux_loss_coef=0.02)


def _mamba2(sizes: Sizes) -> PreTrainedConfig:
    mixer = {"expand": 4, "head_dim": _HEAD, "num_heads": 4 * sizes.width // _HEAD, "state_size": 16, "n_groups": 1}
    return Mamba2Config(**sizes.common, **mixer, chunk_size=32, conv_kernel=4)


def _bamba(sizes: Sizes) -> PreTrainedConfig:
    mixer = {"mamba_expand": 2, "mamba_d_head": _HEAD, "mamba_n_heads": 2 * sizes.width // _HEAD, "mamba_d_state": 16}
    attention_at = list(range(1, sizes.depth, 4))
    return BambaConfig(
        **sizes.common,
        **sizes.attention,
        **mixer,
        **{"mamba_chunk_size": 32, "intermediate_size": 2 * sizes.width, "attn_layer_indices": attention_at},
    )


def _gpt2(sizes: Sizes) -> PreTrainedConfig:
    common = sizes.common | {"tie_word_embeddings": True}
    return GPT2Config(**common, n_head=max(sizes.width // _HEAD, 1), n_positions=sizes.positions)


def _qwen3(sizes: Sizes) -> PreTrainedConfig:
    return Qwen3Config(
        **sizes.common, **sizes.attention, head_dim=_HEAD, intermediate_size=_multiple(sizes.width * 8 / 3)
    )


def _multiple(size: float, of: int = 8) -> int:
    return round(size / of) * of


@dataclass(frozen=True, kw_only=True)
class Family:
    """One kind of model and how it is trained."""

    config: Callable[[Sizes], PreTrainedConfig] = _llama
    differs: str
    """In what, from `dense`."""
    recipe: Recipe = PLAIN
    width: float = 1.0
    """Times the preset's."""
    depth: float = 1.0
    """Times the preset's."""
    tokens: float = 1.0
    """Times the preset's steps."""
    schedule: str = "cosine"
    """Of the learning rate after the warm-up: "cosine" to a tenth; "annealed": constant, the last fifth falls to 0."""
    tuned_from: str | None = None
    """Family whose last checkpoint is trained on, half on templated tasks; None for training from scratch, on text."""


FAMILIES = {
    "dense": Family(differs="nothing: Llama's block, rotary positions, head not tied"),
    "small": Family(differs="half the width", width=0.5),
    "large": Family(differs="twice the width", width=2.0),
    "deep": Family(differs="four times the depth at the same parameters", depth=4.0, width=0.5),
    "shallow": Family(differs="a quarter of the depth at the same parameters", depth=0.25, width=2.0),
    "moe": Family(config=_mixtral, differs="the MLP is two of eight experts of half its width"),
    "mamba2": Family(config=_mamba2, differs="a Mamba-2 mixer in place of attention and MLP"),
    "hybrid": Family(config=_bamba, differs="Mamba-2 in place of attention in three blocks of four"),
    "gpt2": Family(
        config=_gpt2, differs="GPT-2's block: learnt positions, layer norm, GELU, dropout, head tied to the embedding"
    ),
    "current": Family(
        config=_qwen3, differs="QK-norm, twice the tokens, an annealed schedule", tokens=2.0, schedule="annealed"
    ),
    "current-short": Family(config=_qwen3, differs="QK-norm and an annealed schedule", schedule="annealed"),
    "exit": Family(
        differs="trained to exit early (LayerSkip)",
        recipe=Recipe(max_dropout=0.1, dropout_curriculum=True, exit_scale=1.0),
    ),
    "instruct": Family(
        differs="trained on, half on questions and answers from templates, half on text",
        tuned_from="dense",
        tokens=0.15,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How large a zoo is, and how long it trains."""

    families: tuple[str, ...]
    """In the order in which they are trained, seed by seed."""
    seeds: int
    vocab_size: int
    width: int
    depth: int
    row_tokens: int
    """T, tokens predicted of a row."""
    rows: int
    """Of a step."""
    steps: int
    learning_rate: float
    held_out: int
    """Documents of each category that models are scored on."""

    def sizes(self, family: Family, end_token: int) -> Sizes:
        """What the configurations of a family are made from."""
        return Sizes(
            vocab_size=self.vocab_size,
            width=round(self.width * family.width),
            depth=max(round(self.depth * family.depth), 1),
            positions=4 * self.row_tokens,
            end_token=end_token,
        )

    def steps_of(self, family: Family) -> int:
        """Steps that a family trains."""
        return max(round(self.steps * family.tokens), 1)


_ON_CPU = ("dense", "exit", "moe", "mamba2", "small", "gpt2", "current", "instruct")
_ALL = (*_ON_CPU, "hybrid", "large", "deep", "shallow", "current-short")

PRESETS = {
    "tiny": Preset(
        families=_ALL,
        **{"seeds": 1, "vocab_size": 320, "width": 64, "depth": 4, "row_tokens": 32, "rows": 4, "steps": 8},
        **{"learning_rate": 3e-3, "held_out": 12},
    ),
    "cpu": Preset(
        families=_ON_CPU,
        **{"seeds": 3, "vocab_size": 2048, "width": 128, "depth": 8, "row_tokens": 128, "rows": 8, "steps": 1200},
        **{"learning_rate": 3e-3, "held_out": 48},
    ),
    "gpu": Preset(
        families=_ALL,
        **{"seeds": 3, "vocab_size": 16384, "width": 512, "depth": 12, "row_tokens": 512, "rows": 64, "steps": 6000},
        **{"learning_rate": 1e-3, "held_out": 128},
    ),
}
