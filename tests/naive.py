"""The naive reference of the signals: whole vocabulary, textbook formulas, NumPy, in any precision.

It shares no code and no tensor library with `exitbench.signals`.
"""

import numpy as np

__all__ = ["naive_signals"]


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    norms = np.sqrt((a * a).sum(-1)) * np.sqrt((b * b).sum(-1))
    return (a * b).sum(-1) / norms


def naive_signals(logits: np.ndarray, hidden: np.ndarray, target: np.ndarray) -> dict[str, np.ndarray]:
    """(L + 1, R, V) logits and (L + 1, R, D) hidden states -> every built-in signal as (R, L + 1)."""
    shifted = logits - logits.max(-1, keepdims=True)
    logprob = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    prob, final = np.exp(logprob), logprob[-1]
    best = np.partition(prob, (-2, -1), -1)
    answer = logits[-1].argmax(-1)
    rows = np.arange(len(target))
    centred = logits - logits.mean(-1, keepdims=True)
    signals = {
        "top1_id": logits.argmax(-1),
        "top1_prob": best[..., -1],
        "margin": best[..., -1] - best[..., -2],
        "entropy": -(prob * logprob).sum(-1),
        "kl_final": (np.exp(final) * (final - logprob)).sum(-1),
        "kl_prev": np.concatenate(
            [np.full_like(logits[:1, :, 0], np.nan), (prob[1:] * (logprob[1:] - logprob[:-1])).sum(-1)]
        ),
        "tv_final": np.abs(prob - prob[-1]).sum(-1) / 2,
        "final_logprob": logprob[:, rows, answer],
        "final_rank": (logits > logits[:, rows, answer][..., None]).sum(-1),
        "target_logprob": logprob[:, rows, target],
        "logit_cosine": _cosine(logits, logits[-1:]),
        "logit_cosine_centred": _cosine(centred, centred[-1:]),
        "hidden_cosine": _cosine(hidden, hidden[-1:]),
        "hidden_cosine_prev": np.concatenate(
            [np.full_like(hidden[:1, :, 0], np.nan), _cosine(hidden[1:], hidden[:-1])]
        ),
        "hidden_norm": np.sqrt((hidden * hidden).sum(-1)),
    }
    return {name: values.T for name, values in signals.items()}
