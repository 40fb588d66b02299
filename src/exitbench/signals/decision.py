"""The depth at which a token's prediction is decided, straight from hidden states and a readout.

`decisions` is the definition, step by step: the top-1 token at every depth, then the last unbroken run of agreement.

Shapes: L blocks, R tokens, D hidden size, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["Decisions", "decisions"]


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """What the full model predicts, and since when."""

    final_id: NDArray[np.int32]
    """(R,) top-1 token at depth L, the lowest id of those tied."""
    decision_depth: NDArray[np.int32]
    """(R,) D_t: smallest depth at and after which the top-1 token is always the final one; 0..L."""
    not_finite: int
    """How often the logits of a token at a depth were read out, and the largest was no finite number.

    Such a depth never agrees.
    """


def top_ids(logits_RV: torch.Tensor) -> torch.Tensor:
    """(R,) id of each row's largest logit, the lowest of those tied; -1 where that is NaN or infinite."""
    logits = logits_RV.float()
    ids = logits.argmax(-1)
    largest = logits.gather(-1, ids[:, None])[:, 0]  # a NaN is larger than any number
    return torch.where(largest.isfinite(), ids, -1)


def decisions(hidden_LRD: torch.Tensor, readout: Callable[[torch.Tensor], torch.Tensor]) -> Decisions:
    """Decide every token by reading out every depth over the whole vocabulary.

    Args:
        hidden_LRD: (L + 1, R, D) hidden states after 0..L blocks.
        readout: (rows, D) hidden states -> (rows, V) logits in the model's output dtype.
    """
    top1_LR = torch.stack([top_ids(readout(hidden_RD)) for hidden_RD in hidden_LRD])
    agrees_LR = ((top1_LR == top1_LR[-1]) & (top1_LR >= 0)).flip(0).int()
    run_R = agrees_LR.cumprod(0).sum(0).clamp_min(1)  # depth L is the final one, whatever it says
    return Decisions(
        final_id=top1_LR[-1].int().cpu().numpy(),
        decision_depth=(len(hidden_LRD) - run_R).int().cpu().numpy(),
        not_finite=int((top1_LR < 0).sum()),
    )
