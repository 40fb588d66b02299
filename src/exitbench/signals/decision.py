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


def decisions(hidden_LRD: torch.Tensor, readout: Callable[[torch.Tensor], torch.Tensor]) -> Decisions:
    """Decide every token by reading out every depth over the whole vocabulary.

    Args:
        hidden_LRD: (L + 1, R, D) hidden states after 0..L blocks.
        readout: (rows, D) hidden states -> (rows, V) logits in the model's output dtype.
    """
    top1_LR = torch.stack([readout(hidden_RD).argmax(-1) for hidden_RD in hidden_LRD])
    agrees_LR = (top1_LR == top1_LR[-1]).flip(0).int()
    run_R = agrees_LR.cumprod(0).sum(0)
    return Decisions(
        final_id=top1_LR[-1].int().cpu().numpy(),
        decision_depth=(len(hidden_LRD) - run_R).int().cpu().numpy(),
    )
