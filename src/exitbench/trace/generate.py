"""The model's own greedy answers, generated in batches with the key-value cache, by transformers."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

__all__ = ["end_token_ids", "greedy_answers"]


def end_token_ids(model: PreTrainedModel) -> list[int]:
    """Ids that end an answer."""
    assert model.generation_config is not None
    ends = model.generation_config.eos_token_id
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


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
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    generate: Any = model.generate
    output = generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        do_sample=False,
        max_new_tokens=max_new_tokens,
        pad_token_id=pad,
    )
    answers = []
    for new in output[:, width:].tolist():
        stop = next((i + 1 for i, token in enumerate(new) if token in ends), len(new))
        answers.append(new[:stop])
    return answers
