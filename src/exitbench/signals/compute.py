"""All signals of a stretch of tokens at every depth, with a bounded part of the vocabulary's numbers in memory.

Matrix products of a few rows are slow, and numbers that leave the processor's caches are slow too. So a few tokens are
read out at all depths in one product, at most `CHUNK_MIB` of float32 logits, and each depth of theirs is then compared
with their final distribution while that is still in the cache.

Shapes: L blocks, R tokens, D hidden size, V vocabulary.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from exitbench.signals.registry import SIGNALS
from exitbench.signals.view import DepthView

__all__ = ["CHUNK_MIB", "compute_signals"]

CHUNK_MIB = 96


def compute_signals(
    hidden_LRD: torch.Tensor,
    target: torch.Tensor,
    readout: Callable[[torch.Tensor], torch.Tensor],
    vocab_size: int,
) -> dict[str, NDArray[np.generic]]:
    """Compute every registered signal.

    Args:
        hidden_LRD: (L + 1, R, D) hidden states after 0..L blocks.
        target: (R,) id of the token that really comes next.
        readout: (rows, D) hidden states -> (rows, V) logits in the model's output dtype.
        vocab_size: V, from which the chunk sizes follow.

    Returns:
        Name -> (R, L + 1).
    """
    num_depths, num_rows, _ = hidden_LRD.shape
    chunk_rows = max(1, int(CHUNK_MIB * 2**20 / (4 * vocab_size)))
    tokens_at_once = max(1, chunk_rows // num_depths)
    depths_at_once = max(1, chunk_rows // tokens_at_once)
    signals = {name: SIGNALS.get(name) for name in SIGNALS}
    table = {name: np.empty((num_rows, num_depths), signal.dtype) for name, signal in signals.items()}
    for start in range(0, num_rows, tokens_at_once):
        rows = slice(start, min(start + tokens_at_once, num_rows))
        final = None
        for high in range(num_depths, 0, -depths_at_once):
            low = max(0, high - depths_at_once)
            logits = readout(hidden_LRD[low:high, rows].flatten(0, 1)).view(high - low, -1, vocab_size)
            for depth in reversed(range(low, high)):
                view = DepthView(
                    logits[depth - low],
                    hidden_LRD[depth, rows],
                    target[rows],
                    previous_hidden=hidden_LRD[depth - 1, rows] if depth > 0 else None,
                    final=final,
                )
                final = final or view
                for name, signal in signals.items():
                    table[name][rows, depth] = signal.compute(view).cpu().numpy()
    return dict(table)
