"""Count a loaded model: parameters, block costs, rotary bases in force."""

import torch
from transformers import PreTrainedModel

from exitbench.models.adapter import ModelAdapter
from exitbench.models.shape import ModelShape

__all__ = ["model_shape"]


def model_shape(adapter: ModelAdapter) -> ModelShape:
    """Sizes and block costs c_k of a model: shares of the blocks' active matrix-product weights.

    Attention over the context is left out, so that a score does not depend on prompt length.
    """
    model, weights = adapter.model, adapter.paths.block_weights
    head = model.get_submodule(adapter.paths.head).get_parameter("weight")
    return ModelShape(
        num_blocks=adapter.num_blocks,
        hidden_size=adapter.hidden_size,
        vocab_size=adapter.paths.vocab_size,
        num_parameters=sum(p.numel() for p in model.parameters()),
        block_costs=tuple(w / sum(weights) for w in weights),
        block_weights=weights,
        head_weights=head.numel(),
        rotary=rotary_bases(model),
    )


def rotary_bases(model: PreTrainedModel) -> dict[str, float | None]:
    """Rotary base recovered from every `inv_freq` buffer: base**(-i/n) for i = 0..n-1; None if it is no such power."""
    bases: dict[str, float | None] = {}
    for name, buffer in model.named_buffers():
        if not name.endswith("inv_freq") or "original" in name or buffer.numel() < 2:
            continue
        frequencies = buffer.double().cpu()
        exponents = torch.arange(len(frequencies), dtype=torch.float64) / len(frequencies)
        base = frequencies[-1] ** (-1 / exponents[-1])
        is_power = torch.allclose(frequencies, base**-exponents, rtol=1e-4, atol=0)
        bases[name] = float(f"{base.item():.6g}") if is_power else None
    return bases
