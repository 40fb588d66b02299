"""Signals of what a depth predicts, how sure it is, and how far it has moved since the depth before."""

import math

import torch

from exitbench.signals.registry import signal
from exitbench.signals.view import DepthView

__all__ = ["entropy", "kl_prev", "margin", "target_logprob", "top1_id", "top1_prob"]


@signal(dtype="int32", unit="token id", low=0, high=math.inf, confidence=0, known_while_running=True)
def top1_id(view: DepthView) -> torch.Tensor:
    """Most probable token; the lowest id of those tied."""
    return view.top_id


@signal(unit="probability", low=0, high=1, confidence=1, known_while_running=True)
def top1_prob(view: DepthView) -> torch.Tensor:
    """Probability of the most probable token."""
    return (-view.log_normaliser).exp()


@signal(unit="probability", low=0, high=1, confidence=1, known_while_running=True)
def margin(view: DepthView) -> torch.Tensor:
    """Probability of the most probable token minus that of the second (CALM, arXiv 2207.07061, softmax response)."""
    return top1_prob(view) * -torch.expm1(view.second_shifted)


@signal(unit="nats", low=0, high=math.inf, confidence=-1, known_while_running=True)
def entropy(view: DepthView) -> torch.Tensor:
    """Entropy of the distribution (BranchyNet, arXiv 1709.01686)."""
    return (view.log_normaliser - view.expected).clamp_min(0)


@signal(
    unit="nats",
    low=0,
    high=math.inf,
    confidence=-1,
    known_while_running=True,
    needs_previous=True,
    recorded_by_default=False,
)
def kl_prev(view: DepthView) -> torch.Tensor:
    """Kullback-Leibler divergence KL(this depth || one block earlier); NaN at depth 0.

    What exit criteria of the kind "KL to the previous depth" read: a depth that changes nothing any more is settled.
    """
    return view.kl_previous.clamp_min(0)


@signal(unit="nats", low=-math.inf, high=0, confidence=0, known_while_running=False)
def target_logprob(view: DepthView) -> torch.Tensor:
    """Log-probability of the token that really comes next."""
    return view.shifted_target - view.log_normaliser
