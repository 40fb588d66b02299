"""The result in one plain sentence, for somebody who has never heard of the project."""

from collections.abc import Mapping

from exitbench.stats.figure import Figure

__all__ = ["verdict"]

_NEGLIGIBLE = 0.005
"""Savings that print as 0 % cannot pay for any probe."""


def verdict(figures: Mapping[str, Figure | None], reasons: Mapping[str, str]) -> str:
    """Say what the figures mean.

    Args:
        figures: the card's figures by field name; reads `ees`, `aes_1pct` with its disagreement, and what of it is left
            net of its costs, `nes_flops_copy_1pct` and `nes_bytes_deferred_1pct`.
        reasons: why a figure is None, by field name.
    """
    ees, aes = _value(figures["ees"]), _value(figures["aes_1pct"])
    assert ees is not None
    skipped = f"EES {ees:.2f}: a perfect, free detector would skip {_percent(ees)} of the blocks' work"
    if ees < _NEGLIGIBLE:
        return f"{skipped}; early exit has nothing to gain here."
    if aes is None:
        return f"{skipped}; what a plain confidence threshold attains is not known ({reasons['aes_1pct']})."
    attained = f"a plain confidence threshold held to 1 % disagreement attains {_percent(aes)}"
    met = _value(figures["aes_1pct_disagreement"])
    if met is not None and met > 0.01:
        attained += f" (and met {_percent(met)} on held-out prompts)"
    if aes < _NEGLIGIBLE:
        return f"{skipped}, but {attained}: early exit by confidence does not pay here."
    return f"{skipped}; {attained}{_lost(figures)}."


def _lost(figures: Mapping[str, Figure | None]) -> str:
    """In which units probes and state cost more than is saved; nothing where they do not."""
    net = {"FLOPs": _value(figures["nes_flops_copy_1pct"]), "bytes": _value(figures["nes_bytes_deferred_1pct"])}
    losing = [unit for unit, saved in net.items() if saved is not None and saved < 0]
    return f", and its probes and state cost more than that in {' and '.join(losing)}" if losing else ""


def _value(figure: Figure | None) -> float | None:
    return None if figure is None else figure.value


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 10 or percent == 0 else f"{percent:.1f} %"
