"""All signals of a stretch of tokens at every depth, with a bounded part of the vocabulary's numbers in memory.

The readout is called on at most `CHUNK_MIB` of float32 logits: some tokens, at as many depths as fit, because matrix
products of a few rows are slow. Signals are then computed in tiles of at most `TILE_MIB`, small enough for the caches.
Live at once: the tokens' final logits twice (shifted and as probabilities), one chunk of logits, and a few tiles.

Shapes: L blocks, R tokens, D hidden size, V vocabulary.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from exitbench.signals.registry import SIGNALS
from exitbench.signals.view import DepthView

__all__ = ["CHUNK_MIB", "TILE_MIB", "compute_signals"]

CHUNK_MIB = 64
TILE_MIB = 4


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
    mib_a_row = 4 * vocab_size / 2**20
    chunk_rows = max(1, int(CHUNK_MIB / mib_a_row))
    tile_rows = max(1, int(TILE_MIB / mib_a_row))
    num_depths, num_rows, _ = hidden_LRD.shape
    signals = {name: SIGNALS.get(name) for name in SIGNALS}
    table = {name: np.empty((num_rows, num_depths), signal.dtype) for name, signal in signals.items()}

    def fill(logits: torch.Tensor, depth: int, tiles: list[slice], finals: list[DepthView | None]) -> list[DepthView]:
        """Fill in one depth of some tiles; return what was seen. `logits` starts at the first tile."""
        views = []
        for rows, final_view in zip(tiles, finals, strict=True):
            view = DepthView(
                logits[rows.start - tiles[0].start : rows.stop - tiles[0].start],
                hidden_LRD[depth, rows],
                target[rows],
                previous_hidden=hidden_LRD[depth - 1, rows] if depth > 0 else None,
                final=final_view,
            )
            for name, signal in signals.items():
                table[name][rows, depth] = signal.compute(view).cpu().numpy()
            views.append(view)
        return views

    last = num_depths - 1
    for start in range(0, num_rows, chunk_rows):
        stop = min(start + chunk_rows, num_rows)
        tiles = [slice(i, min(i + tile_rows, stop)) for i in range(start, stop, tile_rows)]
        finals = fill(readout(hidden_LRD[last, start:stop]), last, tiles, [None] * len(tiles))
        depths_at_once = max(1, chunk_rows // (stop - start))
        for low in range(0, last, depths_at_once):
            depths = range(low, min(low + depths_at_once, last))
            chunk = hidden_LRD[low : depths.stop, start:stop]
            logits = readout(chunk.flatten(0, 1)).view(len(depths), stop - start, vocab_size)
            for depth in depths:
                fill(logits[depth - low], depth, tiles, list(finals))
    return dict(table)
