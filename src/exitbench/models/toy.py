"""Tiny seeded models with a byte tokenizer: the whole pipeline in seconds, offline, on one core.

They are real transformers models built from configs, so they take the same path as any other model; they have learnt
nothing, and their scores mean nothing.
"""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from exitbench.models.tiny import tiny_config

__all__ = ["byte_tokenizer", "save_toy", "toy_model"]

_CHAT_TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</{{ m['role'] }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


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
    model_type: str = "llama", *, seed: int = 0, num_blocks: int | None = 4, dtype: torch.dtype = torch.float32
) -> PreTrainedModel:
    """Build a tiny untrained model, the same for the same arguments.

    Args:
        model_type: any of transformers' causal language models.
        seed: seed of the weights.
        num_blocks: L; None for as many as show every kind of block of that type.
        dtype: dtype of the weights.
    """
    config = tiny_config(
        model_type,
        num_blocks=num_blocks,
        **{"vocab_size": len(byte_tokenizer()), "eos_token_id": 0, "pad_token_id": 1, "bos_token_id": 2},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)
        for parameter in model.parameters():
            if parameter.ndim > 1:  # the default scale leaves every block close to the identity
                torch.nn.init.normal_(parameter, std=0.25)
    return model.eval().requires_grad_(False)  # type: ignore[no-any-return]


def save_toy(
    folder: Path, model_type: str = "llama", *, seed: int = 0, num_blocks: int | None = 4, chat: bool = True
) -> Path:
    """Write a toy model with its tokenizer to `folder`, as any local checkpoint, and return the folder."""
    toy_model(model_type, seed=seed, num_blocks=num_blocks).save_pretrained(folder)
    byte_tokenizer(chat=chat).save_pretrained(folder)
    return folder
