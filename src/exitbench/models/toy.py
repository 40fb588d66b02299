"""Tiny seeded models with a byte tokenizer: the whole pipeline in seconds, offline, on one core.

They are real transformers models built from configs, so they take the same path as any other model; they have learnt
nothing, and their scores mean nothing.
"""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

__all__ = ["TOY_FAMILIES", "byte_tokenizer", "save_toy", "toy_model"]

_CHAT_TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</{{ m['role'] }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


# Sizes per family, in each config class's own names; `layers` is the name under which it counts its blocks.
TOY_FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {
        "layers": "num_hidden_layers",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
    },
    "gemma3_text": {
        "layers": "num_hidden_layers",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "max_position_embeddings": 2048,
        "sliding_window": 8,
        "sliding_window_pattern": 3,
        "final_logit_softcapping": 5.0,
    },
    "gpt2": {"layers": "n_layer", "n_embd": 32, "n_head": 4, "n_positions": 2048},
    "gpt_neox": {
        "layers": "num_hidden_layers",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "max_position_embeddings": 2048,
    },
    "opt": {
        "layers": "num_hidden_layers",
        "hidden_size": 32,
        "ffn_dim": 64,
        "num_attention_heads": 4,
        "max_position_embeddings": 2048,
        "word_embed_proj_dim": 16,
    },
}


def byte_tokenizer(*, chat: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer of the 256 bytes and three special tokens (ids 0 `<eos>`, 1 `<pad>`, 2 `<bos>`): 259 ids."""
    vocabulary = {"<eos>": 0, "<pad>": 1, "<bos>": 2}
    for symbol in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[symbol] = len(vocabulary)
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    )
    if chat:
        fast.chat_template = _CHAT_TEMPLATE
    return fast


def toy_model(
    family: str = "llama", *, seed: int = 0, num_blocks: int = 4, dtype: torch.dtype = torch.float32
) -> PreTrainedModel:
    """Build a tiny untrained model, the same for the same arguments.

    Args:
        family: a key of `TOY_FAMILIES`.
        seed: seed of the weights.
        num_blocks: L.
        dtype: dtype of the weights.
    """
    sizes = dict(TOY_FAMILIES[family])
    sizes[sizes.pop("layers")] = num_blocks
    vocab_size = len(byte_tokenizer())
    config = AutoConfig.for_model(
        family, vocab_size=vocab_size, eos_token_id=0, pad_token_id=1, bos_token_id=2, **sizes
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)
        for parameter in model.parameters():
            if parameter.ndim > 1:  # the default scale leaves every block close to the identity
                torch.nn.init.normal_(parameter, std=0.25)
    assert sum(p.numel() for p in model.parameters()) < 1_000_000
    return model.eval().requires_grad_(False)  # type: ignore[no-any-return]


def save_toy(folder: Path, family: str = "llama", *, seed: int = 0, num_blocks: int = 4, chat: bool = True) -> Path:
    """Write a toy model with its tokenizer to `folder`, as any local checkpoint, and return the folder."""
    toy_model(family, seed=seed, num_blocks=num_blocks).save_pretrained(folder)
    byte_tokenizer(chat=chat).save_pretrained(folder)
    return folder
