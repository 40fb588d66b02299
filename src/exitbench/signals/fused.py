"""All that built-in signals ask for, on a GPU and with no logits in memory: by the kernels of `triton_readout`.

They are used for a readout that ends in a plain head in bfloat16 or float16, on the device of the hidden states, and
only after a trial: on the readout's probe they must find its own top ids, but for ties within one rounding, and nearly
its own signals. All else is left to torch, on whole logits: float32, quantised or very narrow heads, a scale or a
soft-cap after the head, a GPU or a compiler that Triton cannot use.

The sums of a product are taken in another order than elsewhere, as between any two products of other shapes on a GPU:
now and then a logit is rounded to the neighbouring number. None of this has ever run on a GPU.

Shapes: L blocks, R rows, T tokens at once, K depths at once, D hidden size, E features, V vocabulary.
"""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from triton.errors import TritonError

from exitbench.models.readout import Readout
from exitbench.signals.registry import SIGNALS
from exitbench.signals.triton_readout import Comparison, Head, Reduction, compare_logits, reduce_logits
from exitbench.signals.view import DepthView, one_block_earlier

__all__ = ["FusedReadout", "fused_readout"]

_MOST_ROWS = 8192
"""Of one launch: enough to fill a GPU."""
_BYTES_OF_NUMBER = 32
"""Held for each number of a hidden state: of it and of the one before it float32 copies, features, what norms need."""
_TRIAL_TOKENS = 8
_CANNOT_RUN = (TritonError, RuntimeError, OSError, subprocess.SubprocessError)
_HEADS: WeakKeyDictionary[Readout, Head | None] = WeakKeyDictionary()
"""Heads that have passed the trial; None where there is none."""


@dataclass(frozen=True, kw_only=True)
class FusedReadout:
    """A readout from hidden states straight to what signals ask for."""

    readout: Readout
    """Makes features."""
    head: Head
    """Makes logits of them."""

    @staticmethod
    def sizes(shape: torch.Size, memory: int) -> tuple[int, int]:
        """Tokens of (L + 1, R, D) hidden states to take at once, and depths of them."""
        _, num_rows, hidden_size = shape
        rows = max(1, min(_MOST_ROWS, memory // (_BYTES_OF_NUMBER * hidden_size)))
        tokens = max(1, min(rows, num_rows))
        return tokens, rows // tokens

    def views(
        self, hidden_LTD: torch.Tensor, read_LTD: torch.Tensor, target: torch.Tensor, depths_at_once: int
    ) -> Iterator[tuple[slice, DepthView]]:
        """Views of the same tokens at all depths, from the last one down, at most `depths_at_once` together.

        What is read out are the states `read_LTD`; signals of hidden states are of `hidden_LTD`.
        """
        num_blocks = len(hidden_LTD) - 1
        final_features_TE = self.readout.features(read_LTD[-1])
        final = reduce_logits(final_features_TE, self.head, target[:, None])
        at_target = torch.stack([final.at[:, 0], final.top_logit], -1)
        depths = slice(num_blocks, num_blocks + 1)
        known = self._known(final, at_target, _of_itself(final), len(target))
        final_view = self._view(hidden_LTD, depths, target, known=known)
        yield depths, final_view
        for high in range(num_blocks, 0, -depths_at_once):
            depths = slice(max(0, high - depths_at_once), high)
            features_RE = self.readout.features(read_LTD[depths].flatten(0, 1))
            ids = torch.stack([target, final.top_id], -1).repeat(high - depths.start, 1)
            own = reduce_logits(features_RE, self.head, ids)
            compared = compare_logits(
                features_RE, own, final_features_TE, final, self.head, final_id_logit=own.at[:, 1]
            )
            known = self._known(own, own.at, compared, len(target))
            yield depths, self._view(hidden_LTD, depths, target, known=known, final=final_view)

    @staticmethod
    def _view(hidden_LTD: torch.Tensor, depths: slice, target: torch.Tensor, **others: Any) -> DepthView:
        before = one_block_earlier(hidden_LTD, depths)
        return DepthView(None, hidden_LTD[depths], target, previous_hidden=before, **others)

    def _known(self, own: Reduction, at_R2: torch.Tensor, compared: Comparison, num_tokens: int) -> dict[str, Any]:
        """Properties of `DepthView`; `at_R2` are the logits of the target and of the final top id."""
        shifted_R2 = at_R2 - own.top_logit[:, None]
        values = {
            "top_id": own.top_id.long(),
            "top_logit": own.top_logit,
            "second_shifted": own.second_logit - own.top_logit,
            "log_normaliser": own.log_normaliser,
            "expected": own.expected,
            "shifted_mean": own.shifted_mean,
            "centred_square": own.centred_square,
            "shifted_target": shifted_R2[:, 0],
            "shifted_final_top": shifted_R2[:, 1],
            **vars(compared),
        }
        known = {name: value.reshape(-1, num_tokens) for name, value in values.items()}
        return {"vocab_size": len(self.head.weight), **known}


def fused_readout(readout: Readout) -> FusedReadout | None:
    """The same readout by kernels; None where they cannot be used, or fail their trial at the first call."""
    if readout not in _HEADS:
        head = _head(readout)
        passes = head is not None and _passes_trial(FusedReadout(readout=readout, head=head))
        _HEADS[readout] = head if passes else None
    head = _HEADS[readout]
    return None if head is None else FusedReadout(readout=readout, head=head)


def _head(readout: Readout) -> Head | None:
    """The head, if it is one that the kernels can read."""
    if readout.head is None:
        return None
    weight, bias = readout.head
    fits = (
        weight.dtype in (torch.bfloat16, torch.float16)
        and weight.device == readout.probe_KTD.device
        and weight.is_contiguous()
        and weight.data_ptr() % 16 == 0
        and len(weight) >= 2
        and weight.shape[1] % 8 == 0
    )
    return Head(weight=weight, bias=bias, output_dtype=weight.dtype) if fits else None


def _of_itself(final: Reduction) -> Comparison:
    """The final logits compared with themselves: 0, or not a number where they are none."""
    nothing = final.log_normaliser - final.log_normaliser
    return Comparison(
        surprise=nothing,
        total_variation=nothing,
        final_rank=torch.zeros_like(final.top_id),
        centred_product=final.centred_square,
    )


def _passes_trial(fused: FusedReadout) -> bool:
    """Whether kernels and torch agree on the probe, as far as a rounding of each logit allows."""
    hidden_KTD = fused.readout.probe_KTD[:, :_TRIAL_TOKENS]
    num_depths, num_tokens, _ = hidden_KTD.shape
    target = torch.arange(num_tokens, device=hidden_KTD.device) % fused.readout.vocab_size
    logits = fused.readout(hidden_KTD.flatten(0, 1)).view(num_depths, num_tokens, -1)
    rounding = torch.finfo(fused.head.output_dtype).eps * float(logits.abs().amax())
    final = DepthView(logits[-1], hidden_KTD[-1], target)
    signals = [of for name in SIGNALS if not (of := SIGNALS.get(name)).needs_logits and of.dtype == "float32"]
    try:
        for depths, view in fused.views(hidden_KTD, hidden_KTD, target, depths_at_once=num_depths):
            before = one_block_earlier(hidden_KTD, depths)
            want = DepthView(logits[depths], hidden_KTD[depths], target, previous_hidden=before, final=final)
            found = view.top_id.clamp(0, want.vocab_size - 1)  # a GPU does not survive an index out of range
            lost = want.top_logit - want.at(want.logits, found).float()
            same = (view.final.top_id == final.top_id)[0]  # where a tie is broken otherwise, its token is another one
            close = (_close(of.compute(view)[:, same], of.compute(want)[:, same], rounding) for of in signals)
            if lost.amax() > rounding or not same.any() or not all(close):
                return False
    except torch.OutOfMemoryError:
        raise
    except _CANNOT_RUN:
        return False
    return True


def _close(got: torch.Tensor, want: torch.Tensor, rounding: float) -> bool:
    """Whether no difference is more than a few roundings come to, and half of them are far less, as few round apart."""
    error = torch.where(got.isnan() & want.isnan(), 0, (got - want).abs())
    return bool(error.amax() <= 4 * rounding and error.median() <= rounding / 16)
