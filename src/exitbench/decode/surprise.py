"""How surprising an answer is to the full model: what its perplexity is made of.

One pass over prompt and answer, and the readout of the answer's positions a few at a time, so that no more than a
bounded piece of the vocabulary's numbers is held.

Shapes: N tokens of the answer, R of them at a time, V vocabulary.
"""

from collections.abc import Sequence

import torch

from exitbench.models.load import ProvedModel

__all__ = ["negative_log_likelihood"]

_ROWS = 64


@torch.inference_mode()
def negative_log_likelihood(loaded: ProvedModel, prompt: Sequence[int], answer: Sequence[int]) -> float:
    """Minus the log-probability that the full model gives an answer, in nats, summed over its tokens.

    Args:
        loaded: the model.
        prompt: token ids.
        answer: token ids; not empty.
    """
    ids = torch.tensor([[*prompt, *answer]], device=loaded.model.device)
    hidden_ND = loaded.adapter.capture(ids, slice(len(prompt) - 1, -1))[-1]
    target = ids[0, len(prompt) :].to(hidden_ND.device)
    total = 0.0
    for start in range(0, len(target), _ROWS):
        rows = slice(start, start + _ROWS)
        logprobs = loaded.adapter.readout(hidden_ND[rows]).float().log_softmax(-1)
        total -= float(logprobs.gather(-1, target[rows, None].to(logprobs.device)).double().sum())
    return total
