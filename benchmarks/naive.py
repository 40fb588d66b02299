"""The signals computed the obvious way: whole vocabulary, one library call each, any precision.

It shares no code with `exitbench.signals` and reads hidden states out with the model's own norm and head.
"""

import torch

__all__ = ["naive_signals"]


def naive_signals(logits_LRV: torch.Tensor, hidden_LRD: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every built-in signal as (L + 1, R), from logits and hidden states of all depths in one dtype."""
    logprob = logits_LRV.log_softmax(-1)
    prob, final = logprob.exp(), logprob[-1]
    top2 = prob.topk(2).values
    top1 = logits_LRV.argmax(-1)
    answer = top1[-1].expand_as(top1)[..., None]
    centred = logits_LRV - logits_LRV.mean(-1, keepdim=True)
    cosine = torch.nn.functional.cosine_similarity
    first = torch.full_like(top2[:1, :, 0], torch.nan)
    return {
        "top1_id": top1,
        "top1_prob": top2[..., 0],
        "margin": top2[..., 0] - top2[..., 1],
        "entropy": -(prob * logprob).sum(-1),
        "kl_final": (final.exp() * (final - logprob)).sum(-1),
        "tv_final": (prob - prob[-1]).abs().sum(-1) / 2,
        "final_logprob": logprob.gather(-1, answer)[..., 0],
        "final_rank": (logits_LRV > logits_LRV.gather(-1, answer)).sum(-1),
        "target_logprob": logprob.gather(-1, target.expand(len(top1), -1)[..., None])[..., 0],
        "logit_cosine": cosine(logits_LRV, logits_LRV[-1:], dim=-1),
        "logit_cosine_centred": cosine(centred, centred[-1:], dim=-1),
        "hidden_cosine": cosine(hidden_LRD, hidden_LRD[-1:], dim=-1),
        "hidden_cosine_prev": torch.cat([first, cosine(hidden_LRD[1:], hidden_LRD[:-1], dim=-1)]),
        "hidden_norm": hidden_LRD.norm(dim=-1),
    }
