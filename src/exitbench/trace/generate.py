"""The model's own greedy answers, generated in batches with the key-value cache, by transformers."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

__all__ = ["end_token_ids", "greedy_answers", "padded_left", "up_to_end"]


def end_token_ids(model: PreTrainedModel) -> list[int]:
    """Ids that end an answer."""
    assert model.generation_config is not None
    ends = model.generation_config.eos_token_id
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


def padded_left(prompts: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, P) token ids of prompts, the shorter ones padded on the left, and 1 for tokens, 0 for padding."""
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return ids, mask


def up_to_end(ids: list[int], ends: Collection[int]) -> list[int]:
    """An answer up to and including its first end token."""
    return ids[: next((place + 1 for place, token in enumerate(ids) if token in ends), len(ids))]


@torch.inference_mode()
def greedy_answers(model: PreTrainedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
    """Generate one answer a prompt.

    Args:
        model: with a generation config that holds nothing but its special tokens.
        prompts: token ids; padded on the left here.
        max_new_tokens: longest answer.

    Returns:
        New token ids of each prompt, up to and including the first end token.
    """
    ends = end_token_ids(model)
    pad = model.generation_config.pad_token_id
    pad = pad if isinstance(pad, int) else ends[0] if ends else 0
    ids, mask = padded_left(prompts, pad)
    generate: Any = model.generate
    output = generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        do_sample=False,
        max_new_tokens=max_new_tokens,
        pad_token_id=pad,
    )
    return [up_to_end(new, ends) for new in output[:, ids.shape[1] :].tolist()]
