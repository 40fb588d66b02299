"""Signals that compare a depth's prediction with the full model's. No running policy can know them."""

import math

import torch

from exitbench.signals.registry import signal
from exitbench.signals.view import DepthView

__all__ = ["final_logprob", "final_rank", "kl_final", "logit_cosine", "logit_cosine_centred", "tv_final"]


@signal(unit="nats", low=0, high=math.inf, confidence=-1, known_while_running=False)
def kl_final(view: DepthView) -> torch.Tensor:
    """Kullback-Leibler divergence KL(final || this depth); exactly 0 at depth L."""
    return (view.surprise - view.final.log_normaliser + view.log_normaliser).clamp_min(0)


@signal(unit="probability", low=0, high=1, confidence=-1, known_while_running=False)
def tv_final(view: DepthView) -> torch.Tensor:
    """Total variation distance to the final distribution."""
    return view.total_variation.clamp_max(1)


@signal(unit="nats", low=-math.inf, high=0, confidence=0, known_while_running=False)
def final_logprob(view: DepthView) -> torch.Tensor:
    """Log-probability of the full model's top-1 token."""
    return view.shifted_final_top - view.log_normaliser


@signal(dtype="int32", unit="tokens", low=0, high=math.inf, confidence=0, known_while_running=False)
def final_rank(view: DepthView) -> torch.Tensor:
    """Number of tokens with a strictly larger logit than the full model's top-1 token; 0 = on top, or tied there."""
    return view.final_rank


@signal(unit="cosine", low=-1, high=1, confidence=0, known_while_running=False)
def logit_cosine(view: DepthView) -> torch.Tensor:
    """Cosine between the logits and the final logits; changes when a constant is added to all logits."""
    size, final = view.vocab_size, view.final
    mean, final_mean = view.top_logit + view.shifted_mean, final.top_logit + final.shifted_mean
    # Pythagoras: the part along the constant vector, and the centred rest.
    product = view.centred_product + size * mean * final_mean
    square = view.centred_square + size * mean**2
    final_square = final.centred_square + size * final_mean**2
    return (product / (square.sqrt() * final_square.sqrt())).clamp(-1, 1)


@signal(unit="cosine", low=-1, high=1, confidence=0, known_while_running=False)
def logit_cosine_centred(view: DepthView) -> torch.Tensor:
    """Cosine between the logits and the final logits, each minus its mean over the vocabulary."""
    norms = view.centred_square.sqrt() * view.final.centred_square.sqrt()
    return (view.centred_product / norms).clamp(-1, 1)
