"""EAS, the Early-exit Adaptability Score, with its unknown choices as parameters.

    A_l = S_l^alpha * w_l^(1 - alpha),   w_l = (L - l) / L,   EAS = mean of A_l over l = 1..L,

with S_l the mean similarity of depth l to the final depth. This form comes from readers' notes, not from the
paper (*The Diminishing Returns of Early-Exit Decoding in Modern LLMs*, arXiv 2603.23701): alpha, the
similarity and the averaging are unknown, so every card prints three similarities and the whole range over
alpha.

Known weaknesses, each pinned by a test: it cannot reach 1 (at S = 1 it tends to 1 / (2 - alpha)); the cosine
of logits changes when a constant is added to all logits, which softmax ignores, so a centred one is offered;
a negative S has no real power and is clipped at 0; and it is high for residual streams that predict nothing.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from exitbench.stats.bootstrap import Bootstrap, Estimate, Prompts

__all__ = ["ALPHAS", "DEFAULT_ALPHA", "SIMILARITIES", "adaptability"]

SIMILARITIES = ("logit_cosine", "logit_cosine_centred", "hidden_cosine")
"""Signals that may stand for S."""
ALPHAS = tuple(step / 10 for step in range(1, 10))
"""Grid of the free exponent; its ends 0 (S ignored) and 1 (depth ignored) are no early-exit score."""
DEFAULT_ALPHA = 0.5


def adaptability(similarity: NDArray[np.floating[Any]], prompts: Prompts, bootstrap: Bootstrap) -> Estimate:
    """Estimate EAS at every alpha of `ALPHAS`.

    Args:
        similarity: (N, L + 1) similarity of each depth to the final one, by token.
        prompts: how the N rows fall into prompts.
        bootstrap: resamples of the prompts.

    Returns:
        (len(ALPHAS),) scores.
    """
    num_blocks = similarity.shape[1] - 1
    room = (num_blocks - np.arange(1, num_blocks + 1)) / num_blocks

    def scores(mean_similarity: NDArray[np.float64]) -> NDArray[np.float64]:
        clipped = np.maximum(mean_similarity, 0.0)
        by_alpha = [np.mean(clipped**alpha * room ** (1 - alpha), axis=-1) for alpha in ALPHAS]
        return np.stack(by_alpha, axis=-1)

    return bootstrap.mean(prompts.sums(similarity[:, 1:]), prompts.counts()).map(scores)
