"""What a decision is: the token that the full model predicts, and the depth since when it is the top-1.

Shapes: L blocks, R tokens, V vocabulary.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["Decisions", "top_ids"]


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
