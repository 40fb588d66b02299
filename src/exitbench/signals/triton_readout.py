"""Fused readout on a GPU: what signals need of a depth's logits, with never more than a tile of logits in memory.

Two passes. `reduce_logits` turns hidden states into a few numbers a row; `compare_logits` takes those of two depths and
relates them. The second computes both depths' logits anew, tile by tile: keeping one depth's would take R x V numbers.
The definitions are those of `DepthView`, and so are the rules: logits are rounded to the model's output dtype before
any comparison, ties break to the lowest id, sums accumulate in float32.

The vocabulary is cut into stretches reduced by programs of their own, whose results are merged here: a few row tiles
alone would leave most of a GPU idle. Their number depends on the rows, not on the vocabulary, and so does the memory.

It has never run on a GPU so far: `benchmarks/readout_gpu.py` is the command. The tests run in Triton's interpreter.

Shapes: R rows (tokens), D hidden size, V vocabulary, K ids a row, S stretches of the vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from exitbench.signals.triton_kernels import INTERPRETED, compare_kernel, reduce_kernel

__all__ = ["Comparison", "Head", "Reduction", "compare_logits", "reduce_logits"]

_DTYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16, torch.float32: tl.float32}
_LARGEST_BLOCK = 256  # a stretch is a multiple of every BLOCK_V
_MIN_STRETCHES = 16  # with 8 row tiles running at once: about as many programs as a Hopper GPU has processors
_MIN_PROGRAMS = 256


@dataclass(frozen=True, kw_only=True)
class Head:
    """What makes logits of normed hidden states: product, bias, scale, soft-cap, in this order.

    The product accumulates in float32. What each of these steps returns is rounded to `output_dtype`, as in a model
    that computes in that dtype; product and bias are one step, the soft-cap's division, tanh and product are
    three.
    """

    weight: torch.Tensor
    """(V, D), bfloat16 or float16; V >= 2, D a multiple of 8."""
    bias: torch.Tensor | None = None
    """(V,)"""
    scale: float = 1.0
    """Factor of the logits."""
    softcap: float | None = None
    """c of c * tanh(logit / c), after the scale."""
    output_dtype: torch.dtype
    """Dtype of the model's logits: bfloat16, float16 or float32."""


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """What one depth's logits come to. Where a logit is not a number, `log_normaliser` is none either."""

    top_id: torch.Tensor
    """(R,) int32, id of the largest logit, the lowest one of those tied."""
    top_logit: torch.Tensor
    """(R,) the largest logit."""
    second_logit: torch.Tensor
    """(R,) largest logit of all other ids."""
    log_normaliser: torch.Tensor
    """(R,) log-sum-exp of logit - top_logit."""
    expected: torch.Tensor
    """(R,) sum of p * (logit - top_logit); the entropy is log_normaliser - expected."""
    shifted_mean: torch.Tensor
    """(R,) mean of logit - top_logit over the vocabulary."""
    centred_square: torch.Tensor
    """(R,) sum of squares of the logits minus their mean."""
    at: torch.Tensor
    """(R, K) logits at the ids asked for; not a number where an id is out of range."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How one depth's logits relate to the final ones."""

    surprise: torch.Tensor
    """(R,) sum of p_final * (how much lower than the final one a logit is, each shifted by its row's largest)."""
    total_variation: torch.Tensor
    """(R,) half the sum of |p - p_final|."""
    final_rank: torch.Tensor
    """(R,) int32, number of ids with a strictly larger logit than the final top id."""
    centred_product: torch.Tensor
    """(R,) sum of (logit - its mean) * (final logit - its mean)."""


def reduce_logits(hidden: torch.Tensor, head: Head, ids: torch.Tensor) -> Reduction:
    """Reduce the logits of some rows.

    Args:
        hidden: (R, D) normed hidden states in the dtype of the weight, on its device.
        head: what makes logits of them.
        ids: (R, K) ids whose logits are wanted; K may be 0.
    """
    num_rows, num_ids = ids.shape
    launch = _Launch(hidden, head)
    at = hidden.new_full((num_rows, num_ids), torch.nan, dtype=torch.float32)
    part = hidden.new_empty((6, launch.num_stretches, num_rows), dtype=torch.float32)
    top_id = hidden.new_empty((launch.num_stretches, num_rows), dtype=torch.int32)
    launch.run(
        reduce_kernel,
        ids_ptr=ids.to(torch.int32).contiguous(),
        at_ptr=at,
        part_ptr=part,
        top_id_ptr=top_id,
        NUM_IDS=num_ids,
    )
    return _merge(part, top_id, launch.lengths, at)


def compare_logits(
    hidden: torch.Tensor,
    own: Reduction,
    final_hidden: torch.Tensor,
    final: Reduction,
    head: Head,
    *,
    final_id_logit: torch.Tensor,
) -> Comparison:
    """Compare the logits of T tokens, at one depth after the other, with their final ones.

    Args:
        hidden: (R, D) as in `reduce_logits`, of R / T depths.
        own: its reduction.
        final_hidden: (T, D) the same tokens at depth L.
        final: its reduction.
        head: what makes logits of both.
        final_id_logit: (R,) own logit of the final top id, from `own.at`.
    """
    launch = _Launch(hidden, head)
    num_depths = len(hidden) // len(final_hidden)
    own_known, final_known = (torch.stack([of.top_logit, of.log_normaliser, of.shifted_mean]) for of in (own, final))
    known = [own_known, final_known.repeat(1, num_depths), final_id_logit[None]]
    part = hidden.new_empty((4, launch.num_stretches, len(hidden)), dtype=torch.float32)
    launch.run(
        compare_kernel,
        final_hidden=launch.descriptor(final_hidden.repeat(num_depths, 1)),
        known_ptr=torch.cat(known),
        final_top_id_ptr=final.top_id.repeat(num_depths),
        part_ptr=part,
    )
    surprise, distance, above, product = part.sum(1)
    return Comparison(
        surprise=surprise,
        total_variation=distance,
        final_rank=above.int(),
        centred_product=product,
    )


def stretch_length(num_rows: int, vocab_size: int) -> int:
    """Ids a stretch: short enough to give every processor of a GPU a program, a multiple of every tile's width."""
    wanted = max(_MIN_STRETCHES, triton.cdiv(_MIN_PROGRAMS, triton.cdiv(num_rows, 128)))
    return int(triton.cdiv(triton.cdiv(vocab_size, wanted), _LARGEST_BLOCK) * _LARGEST_BLOCK)


class _Launch:
    """What both kernels are launched with."""

    def __init__(self, hidden: torch.Tensor, head: Head) -> None:
        (num_rows, hidden_size), (vocab_size, head_size) = hidden.shape, head.weight.shape
        assert hidden_size == head_size, f"hidden states {tuple(hidden.shape)}, head {tuple(head.weight.shape)}"
        assert hidden.dtype == head.weight.dtype, f"hidden states {hidden.dtype}, head {head.weight.dtype}"
        assert hidden.dtype in (torch.bfloat16, torch.float16), hidden.dtype
        assert hidden_size % 8 == 0, hidden_size
        stretch = stretch_length(num_rows, vocab_size)
        self.num_stretches = triton.cdiv(vocab_size, stretch)
        starts = torch.arange(0, vocab_size, stretch, device=hidden.device)
        self.lengths = (vocab_size - starts).clamp_max(stretch).float()
        """(S,) ids in each stretch."""
        self._device_of = torch.cuda.device_of(hidden)
        self._grid = lambda blocks: (triton.cdiv(num_rows, blocks["BLOCK_R"]) * self.num_stretches,)
        self._arguments: dict[str, Any] = {
            "hidden": self.descriptor(hidden),
            "weight": self.descriptor(head.weight),
            "bias_ptr": head.bias,
            "R": num_rows,
            "V": vocab_size,
            "D": hidden_size,
            "stretch": stretch,
            "num_stretches": self.num_stretches,
            "SCALE": head.scale,
            "SOFTCAP": head.softcap,
            "OUTPUT": _DTYPES[head.output_dtype],
            "INTERPRETED": INTERPRETED,
        }

    def run(self, kernel: Any, **arguments: Any) -> None:
        """Launch a kernel with what both have and some more."""
        with self._device_of:  # Triton launches on the current device, wherever its arguments lie
            kernel[self._grid](**arguments, **self._arguments)

    @staticmethod
    def descriptor(matrix: torch.Tensor) -> TensorDescriptor:
        """Descriptor of a matrix, to be read in blocks whose shape the configuration gives."""
        matrix = matrix.contiguous()
        return TensorDescriptor.from_tensor(matrix.float() if INTERPRETED else matrix, [1, 8])


def _merge(part: torch.Tensor, top_ids: torch.Tensor, lengths: torch.Tensor, at: torch.Tensor) -> Reduction:
    """One reduction from those of the stretches.

    Args:
        part: (6, S, R) top, second, sum, weighted sum, mean and centred square of each stretch.
        top_ids: (S, R) id of each top.
        lengths: (S,) ids in each stretch.
        at: (R, K) logits at the ids asked for.
    """
    tops, seconds, totals, weighted, means, squares = part
    best = tops.argmax(0, keepdim=True)  # the first of those tied, which has the lowest ids
    top = tops.gather(0, best)
    drop = tops - top
    total = (totals * drop.exp()).sum(0)
    shares = (lengths / lengths.sum())[:, None]
    mean = (shares * means).sum(0)
    between = lengths[:, None] * (means - mean) ** 2
    return Reduction(
        top_id=top_ids.gather(0, best)[0],
        top_logit=top[0],
        second_logit=tops.scatter(0, best, seconds.gather(0, best)).amax(0),
        log_normaliser=total.log(),
        expected=((weighted + totals * drop) * drop.exp()).sum(0) / total,
        shifted_mean=mean - top[0],
        centred_square=(squares + between).sum(0),
        at=at,
    )
