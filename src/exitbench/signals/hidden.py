"""Signals of the hidden state itself; they need no readout."""

import math

import torch

from exitbench.signals.registry import signal
from exitbench.signals.view import DepthView, row_products

__all__ = ["hidden_cosine", "hidden_cosine_prev", "hidden_norm"]

_SMALLEST = torch.finfo(torch.float32).tiny


def _cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Cosine of each row with the same row of `b`; 0 where one of them is 0. torch's own takes three times as long."""
    norms = row_products(a, a).sqrt() * row_products(b, b).sqrt()
    return (row_products(a, b) / norms.clamp_min(_SMALLEST)).clamp(-1, 1)


@signal(unit="cosine", low=-1, high=1, confidence=0, known_while_running=False, needs_readout=False)
def hidden_cosine(view: DepthView) -> torch.Tensor:
    """Cosine between the hidden state and the final one."""
    return _cosine(view.hidden, view.final.hidden)


@signal(unit="cosine", low=-1, high=1, confidence=1, known_while_running=True, needs_readout=False)
def hidden_cosine_prev(view: DepthView) -> torch.Tensor:
    """Cosine to the hidden state one block earlier (CALM's hidden-state saturation); NaN at depth 0."""
    assert view.previous_hidden is not None
    return _cosine(view.hidden, view.previous_hidden)


@signal(unit="L2 norm", low=0, high=math.inf, confidence=0, known_while_running=True, needs_readout=False)
def hidden_norm(view: DepthView) -> torch.Tensor:
    """Euclidean norm of the hidden state."""
    return row_products(view.hidden, view.hidden).sqrt()
