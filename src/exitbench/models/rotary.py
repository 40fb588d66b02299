"""Rotary bases in force, recovered from a loaded model instead of read from its config."""

import torch
from transformers import PreTrainedModel

__all__ = ["rotary_bases"]


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
