"""The plain counterpart of the fused readout: whole logits in torch, then `DepthView`.

Shapes: R rows, D hidden size, V vocabulary.
"""

from dataclasses import asdict

import torch

from exitbench.signals.final import final_rank, tv_final
from exitbench.signals.triton_readout import Head, compare_logits, reduce_logits
from exitbench.signals.view import DepthView, row_products

__all__ = ["Double", "fused_fields", "plain_fields", "plain_logits"]


def plain_logits(
    hidden: torch.Tensor, head: Head, precision: torch.dtype = torch.float32, *, rounded: bool = True
) -> torch.Tensor:
    """(R, V) logits as `Head` defines them, in the given precision; without the roundings if asked."""

    def step(x: torch.Tensor) -> torch.Tensor:
        return x.to(head.output_dtype).to(precision) if rounded else x

    product = hidden.to(precision) @ head.weight.to(precision).T
    x = step(product if head.bias is None else product + head.bias.to(precision))
    x = step(x * head.scale)
    return x if head.softcap is None else step(step(step(x / head.softcap).tanh()) * head.softcap)


class Double(DepthView):
    """`DepthView` that stays in float64."""

    def __init__(self, logits: torch.Tensor, hidden: torch.Tensor, target: torch.Tensor, **others: DepthView) -> None:
        super().__init__(logits, hidden, target, **others)
        self.top_id = logits.argmax(-1)
        self.top_logit = self.at(logits, self.top_id)
        self.shifted = logits - self.top_logit[:, None]


def plain_fields(
    logits: torch.Tensor, final_logits: torch.Tensor, ids: torch.Tensor, kind: type[DepthView] = DepthView
) -> dict[str, torch.Tensor]:
    """The fields of both passes from whole logits, and the logits at the (R,) `ids`."""
    final = kind(final_logits, final_logits, ids)
    view = kind(logits, logits, ids, final=final)
    return {
        "top_id": view.top_id,
        "top_logit": view.top_logit,
        "second_logit": logits.scatter(-1, view.top_id[:, None], -torch.inf).amax(-1),
        "log_normaliser": view.log_normaliser,
        "expected": row_products(view.probabilities, view.shifted),
        "shifted_mean": view.shifted_mean,
        "centred_square": view.centred_square,
        "at": view.at(logits, ids),
        "surprise": view.surprise,
        "total_variation": tv_final(view),
        "final_rank": final_rank(view),
        "centred_product": view.centred_product,
    }


def fused_fields(
    hidden: torch.Tensor, final_hidden: torch.Tensor, ids: torch.Tensor, head: Head
) -> dict[str, torch.Tensor]:
    """The same from the kernels."""
    final = reduce_logits(final_hidden, head, ids[:, None])
    own = reduce_logits(hidden, head, torch.stack([ids, final.top_id], -1))
    compared = compare_logits(hidden, own, final_hidden, final, head, final_id_logit=own.at[:, 1])
    return asdict(own) | asdict(compared) | {"at": own.at[:, 0]}
