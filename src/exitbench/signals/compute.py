"""All signals of a stretch of tokens at every depth, with a bounded part of the vocabulary's numbers in memory.

Matrix products of a few rows are slow, and numbers that leave the processor's caches are slow too. So some tokens are
read out at all depths in one product, and each row of logits is then reduced in one go: by compiled code where there is
some (`native`), depth by depth by torch elsewhere. On a GPU, product and reductions are one step where that gives the
same numbers (`fused`), and no logits are held; signals of other packages may ask for them, and some of ours do, so with
such a signal among those to compute they are.

Signals that compare a depth with the one before it need both read out. Where not all depths are read out at once, those
at which a chunk begins are read out twice, and only if there is such a signal.

Shapes: L blocks, R tokens, D hidden size, V vocabulary; K depths, T tokens of one product.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from exitbench.models.readout import Readout
from exitbench.signals.native import native_reductions
from exitbench.signals.registry import SIGNALS, recorded_names
from exitbench.signals.view import DepthView, one_block_earlier

if TYPE_CHECKING:
    from exitbench.signals.fused import FusedReadout

__all__ = ["DEFAULT_MEMORY", "MOST_ROWS", "ReadsOut", "compute_signals"]

DEFAULT_MEMORY = 192 * 2**20
"""Bytes of logits, and of what is derived from them, held at once."""
MOST_ROWS = 256
"""Of one product; larger ones are no faster."""

_FLOATS_OF_TORCH = 16
"""Numbers that torch code holds at most for an entry of the final distribution, beside the logits themselves."""
_FLOATS_OF_PREVIOUS = 3
"""As many more where signals compare with the depth before."""

_KERNELS_RUN_ON = ("cuda",)


class ReadsOut(Protocol):
    """(rows, D) hidden states -> (rows, V) logits, in memory that the next call may use again."""

    vocab_size: int
    """V."""
    dtype: torch.dtype
    """Of the logits, which hold the values of the model's output dtype."""

    def __call__(self, hidden_RD: torch.Tensor, /) -> torch.Tensor:
        """Logits of hidden states of any depth."""


def compute_signals(
    hidden_LRD: torch.Tensor,
    target: torch.Tensor,
    readout: ReadsOut,
    *,
    names: Iterable[str] | None = None,
    read_LRD: torch.Tensor | None = None,
    memory: int = DEFAULT_MEMORY,
) -> dict[str, NDArray[np.generic]]:
    """Compute signals.

    Args:
        hidden_LRD: (L + 1, R, D) hidden states after 0..L blocks.
        target: (R,) id of the token that really comes next.
        readout: of the model.
        names: of the signals; of those recorded by default if None.
        read_LRD: (L + 1, R, D) states to be read out in their place; signals of the hidden states stay those of them.
        memory: bytes to hold at once, as far as one token needs no more at one depth, or at two where a signal compares
            with the depth before.

    Returns:
        Name -> (R, L + 1).

    Raises:
        UnknownNameError: there is no such signal.
    """
    num_depths, num_rows, _ = hidden_LRD.shape
    signals = {name: SIGNALS.get(name) for name in (recorded_names() if names is None else names)}
    needs_logits = any(of.needs_logits for of in signals.values())
    fused = None if needs_logits else _fused_readout(readout, hidden_LRD.device)
    read_LRD = hidden_LRD if read_LRD is None else read_LRD
    if fused is not None:
        views, (tokens_at_once, depths_at_once) = fused.views, fused.sizes(hidden_LRD.shape, memory)
    else:
        together = all(of.built_in for of in signals.values())
        previous = any(of.needs_previous for of in signals.values())
        views = partial(_views, readout, together=together, previous=previous)
        tokens_at_once, depths_at_once = _sizes(num_depths, readout, hidden_LRD.device, memory, previous=previous)
    table = {name: np.empty((num_rows, num_depths), signal.dtype) for name, signal in signals.items()}
    for start in range(0, num_rows, tokens_at_once):
        rows = slice(start, min(start + tokens_at_once, num_rows))
        for depths, view in views(hidden_LRD[:, rows], read_LRD[:, rows], target[rows], depths_at_once):
            for name, signal in signals.items():
                table[name][rows, depths] = signal.compute(view).T.cpu().numpy()
    return dict(table)


def _fused_readout(readout: ReadsOut, device: torch.device) -> "FusedReadout | None":
    """The readout without logits, where there can be one."""
    if device.type not in _KERNELS_RUN_ON or not isinstance(readout, Readout) or find_spec("triton") is None:
        return None
    from exitbench.signals.fused import fused_readout  # imports triton, which exists for Linux only

    return fused_readout(readout)


def _sizes(num_depths: int, readout: ReadsOut, device: torch.device, memory: int, *, previous: bool) -> tuple[int, int]:
    """Tokens to read out at once, and depths of them."""
    size = readout.dtype.itemsize
    of_torch = 4 * (_FLOATS_OF_TORCH + _FLOATS_OF_PREVIOUS * previous)
    of_final = size + 4 if native_reductions(readout.dtype, device) else of_torch
    numbers = memory // readout.vocab_size
    tokens = max(1, min(MOST_ROWS // num_depths, numbers // (num_depths * size + of_final)))
    return tokens, max(1 + previous, min(num_depths, (numbers // tokens - of_final) // size))


def _views(
    readout: ReadsOut,
    hidden_LTD: torch.Tensor,
    read_LTD: torch.Tensor,
    target: torch.Tensor,
    depths_at_once: int,
    *,
    together: bool,
    previous: bool,
) -> Iterator[tuple[slice, DepthView]]:
    """Views of the same tokens at all depths, from the last one down, at most `depths_at_once` read out together.

    Each is a view of its own unless `together`, and wherever torch computes: it holds many numbers for each logit. With
    `previous`, all but that of depth 0 know the view one block earlier; the lowest depth read out serves as that alone.
    """
    num_depths, num_tokens, _ = hidden_LTD.shape
    final, high = None, num_depths
    while high > 0:
        low = max(0, high - depths_at_once)
        first = low + 1 if previous and low > 0 else low
        logits_KTV = readout(read_LTD[low:high].flatten(0, 1)).view(high - low, num_tokens, -1)
        native = native_reductions(logits_KTV.dtype, logits_KTV.device)
        if final is None:
            final_logits = logits_KTV[-1].clone() if low > 0 else logits_KTV[-1]  # the next readout writes over them
            of_final = native.final(final_logits) if native else None
            final = DepthView(final_logits, hidden_LTD[-1], target, known=of_final.known if of_final else None)
        alone = not (native and together)
        for depths in _stretches(first, high, alone=alone, previous=previous):
            start, stop = depths.start - low, depths.stop - low
            known = native.reductions(logits_KTV[start:stop], of_final) if native and of_final else {}
            before, earlier = one_block_earlier(hidden_LTD, depths), None
            if previous and depths.start > 0:
                earlier = DepthView(logits_KTV[start - 1 : stop - 1], before, target, final=final)
                if native:
                    known["kl_previous"] = native.divergences(logits_KTV[start - 1 : stop])
            others: dict[str, Any] = {"previous_hidden": before, "final": final, "previous": earlier, "known": known}
            yield depths, DepthView(logits_KTV[start:stop], hidden_LTD[depths], target, **others)
        high = first


def _stretches(first: int, high: int, *, alone: bool, previous: bool) -> list[slice]:
    """Depths of one view each, from the deepest down; depth 0, which has nothing before it, is not with others."""
    if alone:
        return [slice(depth, depth + 1) for depth in reversed(range(first, high))]
    if previous and first == 0 and high > 1:
        return [slice(1, high), slice(0, 1)]
    return [slice(first, high)]
