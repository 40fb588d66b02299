"""Signals of the hidden state itself; they need no readout."""

import math

import torch

from exitbench.signals.registry import signal
from exitbench.signals.view import DepthView, row_products

__all__ = ["hidden_cosine", "hidden_cosine_prev", "hidden_norm"]


@signal(unit="cosine", low=-1, high=1, confidence=0, known_while_running=False)
def hidden_cosine(view: DepthView) -> torch.Tensor:
    """Cosine between the hidden state and the final one."""
    return torch.cosine_similarity(view.hidden, view.final.hidden, dim=-1).clamp(-1, 1)


@signal(unit="cosine", low=-1, high=1, confidence=1, known_while_running=True)
def hidden_cosine_prev(view: DepthView) -> torch.Tensor:
    """Cosine to the hidden state one block earlier (CALM's hidden-state saturation); NaN at depth 0."""
    assert view.previous_hidden is not None
    return torch.cosine_similarity(view.hidden, view.previous_hidden, dim=-1).clamp(-1, 1)


@signal(unit="L2 norm", low=0, high=math.inf, confidence=0, known_while_running=True)
def hidden_norm(view: DepthView) -> torch.Tensor:
    """Euclidean norm of the hidden state."""
    return row_products(view.hidden, view.hidden).sqrt()
