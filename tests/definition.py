"""The definition of a decision, step by step: the slow, obvious way that every faster one is held to."""

from collections.abc import Callable

import torch

from exitbench.signals.decision import Decisions, top_ids

__all__ = ["decisions"]


def decisions(hidden_LRD: torch.Tensor, readout: Callable[[torch.Tensor], torch.Tensor]) -> Decisions:
    """The top-1 token at every depth, over the whole vocabulary; then the last unbroken run of agreement.

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
