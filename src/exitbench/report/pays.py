"""Does early exit pay here? Three sentences for an engineer: what there is to gain, what it costs, what to do."""

from exitbench.report.figures import percent
from exitbench.score.scorecard import ScoreCard
from exitbench.stats.figure import Figure

__all__ = ["pays"]

_WORTH = 0.01
"""Savings of less than 1 % are lost in the noise of any serving stack."""


def pays(card: ScoreCard) -> tuple[str, ...]:
    """The three sentences; fewer where what they rest on was not recorded."""
    gross, ees = _value(card.aes_5pct), _value(card.ees)
    if gross is None or ees is None:
        return ()
    flops, moved = _value(card.nes_flops_copy_5pct), _value(card.nes_bytes_deferred_5pct)
    return (_there_is(ees, gross), _it_costs(card, flops, moved), _so(card, gross, flops, moved))


def _there_is(ees: float, gross: float) -> str:
    return (
        f"A perfect and free detector would skip {percent(ees)} of the blocks' work; the plain confidence threshold, "
        f"allowed to change 5 % of the tokens, skips {percent(gross)}."
    )


def _it_costs(card: ScoreCard, flops: float | None, moved: float | None) -> str:
    if flops is None or moved is None:
        unknown = "nes_flops_copy_5pct" if flops is None else "nes_bytes_deferred_5pct"
        why = card.reasons[unknown]
        return f"What is left of that after its probes and the state of skipped blocks is not known: {why}."
    return (
        "Once its probes at every depth and the state of the skipped blocks are paid for, a token takes "
        f"{_change(flops, 'FLOPs')} (state copied) and {_change(moved, 'bytes of memory traffic')} (skipped blocks run "
        "later, in chunks) at batch 1 and 512 positions."
    )


def _change(saved: float, unit: str) -> str:
    if abs(saved) < _WORTH / 10:
        return f"as many {unit} as before"
    return f"{percent(abs(saved))} {'fewer' if saved > 0 else 'more'} {unit}"


def _so(card: ScoreCard, gross: float, flops: float | None, moved: float | None) -> str:
    known = [net for net in (flops, moved) if net is not None]
    if gross == 0:
        advice = "Early exit by confidence does not pay here: no threshold keeps to 5 % of changed tokens"
    elif not known:
        advice = "Whether early exit pays here cannot be said"
    elif max(known) < _WORTH:
        advice = "Early exit by a threshold on every depth costs more than it saves here"
        advice += ": look at fewer depths, at signals that need no readout, or leave it"
    else:
        what = "both FLOPs and memory traffic" if min(known) >= _WORTH else "only one of FLOPs and memory traffic"
        advice = f"Early exit can pay here, in {what}, if changing 5 % of the tokens is acceptable"
    return f"{advice}; {_drafts(card)}."


def _drafts(card: ScoreCard) -> str:
    speedup, drafts = _value(card.lossless_projection), [d for d in card.lossless_drafts or [] if d is not None]
    if speedup is None:
        return "drafting with early depths was not projected"
    if not drafts or speedup < 1 + _WORTH:
        return "drafting with early depths and checking with the rest, which changes no token, gains nothing either"
    depth, length = max(set(drafts), key=drafts.count)
    return (
        f"drafting {length} tokens at depth {depth} and checking with the rest, which changes no token, is projected "
        f"at {speedup:.2f}x the speed where memory traffic decides"
    )


def _value(figure: Figure | None) -> float | None:
    return None if figure is None else figure.value
