"""Losses that a calibration can bound: what leaving early does to a prompt, as one number in [0, 1] per threshold.

Three readings of "a prompt went wrong", from mild to strict in what they ask for:

- token: the share of its tokens whose prediction at the exit is not the full model's;
- answer: 1 if that is so for any token of the prompt, so that generating on would have left the recorded answer;
- task: 1 in the same case, times the task metric of the full model's own answer. An unchanged answer keeps its
  metric, and a changed one loses at most what it had: the mean is an upper bound on the drop of the metric. Changed
  answers that stay right, or become right, are not seen, so the bound can be far from the drop itself.

The prompt is the unit, since tokens of one prompt depend on each other: a risk is a mean over prompts, in which short
and long answers count alike. (Disagreement elsewhere is a ratio of sums, in which every token counts alike.)

A prompt for which a loss is undefined has NaN in its whole row, and is none of the n prompts of a certificate.

Letters: P prompts, G thresholds.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Risk", "answer_losses", "losses_of", "task_losses", "token_losses"]

Floats = NDArray[np.float64]
Risk = Literal["token", "answer", "task"]


def token_losses(disagreements: NDArray[Any], tokens: NDArray[Any]) -> Floats:
    """Return the share of each prompt's tokens that disagree, (P, G); NaN for a prompt without tokens.

    Args:
        disagreements: (P, G) tokens whose prediction at the exit is not the full model's.
        tokens: (P,) tokens of each prompt.
    """
    assert disagreements.shape[0] == len(tokens), (disagreements.shape, tokens.shape)
    shares = np.full(disagreements.shape, np.nan)
    np.divide(disagreements, tokens[:, None], out=shares, where=tokens[:, None] > 0)
    return shares


def answer_losses(disagreements: NDArray[Any], tokens: NDArray[Any]) -> Floats:
    """Return 1 for prompts of which any token disagrees, else 0, (P, G); NaN for a prompt without tokens.

    Args:
        disagreements: (P, G) tokens whose prediction at the exit is not the full model's.
        tokens: (P,) tokens of each prompt.
    """
    return np.ceil(token_losses(disagreements, tokens))


def task_losses(disagreements: NDArray[Any], tokens: NDArray[Any], metric: Floats) -> Floats:
    """Return the most that a prompt's task metric can have dropped, (P, G); NaN where it has no metric.

    Args:
        disagreements: (P, G) tokens whose prediction at the exit is not the full model's.
        tokens: (P,) tokens of each prompt.
        metric: (P,) metric in [0, 1] of the full model's own answer, NaN where there is nothing to compare it with.
    """
    assert metric.shape == tokens.shape, (metric.shape, tokens.shape)
    assert not np.any((metric < 0) | (metric > 1)), "a task metric lies in [0, 1]"
    return metric[:, None] * answer_losses(disagreements, tokens)


def losses_of(risk: Risk, disagreements: NDArray[Any], *, tokens: NDArray[Any], metric: Floats | None = None) -> Floats:
    """Return the losses of `risk`, (P, G).

    Args:
        risk: which reading.
        disagreements: (P, G) tokens whose prediction at the exit is not the full model's, thresholds strict to loose.
        tokens: (P,) tokens of each prompt.
        metric: (P,) metric of the full model's own answer; for the task risk.
    """
    if risk == "token":
        return token_losses(disagreements, tokens)
    if risk == "answer":
        return answer_losses(disagreements, tokens)
    assert metric is not None, "the task risk needs the metric of the full model's answers"
    return task_losses(disagreements, tokens, metric)
