"""Does early exit pay here? Three sentences for an engineer: what there is to gain, what it costs, what to do.

They speak of the plain confidence threshold at 5 % of changed tokens, the laxer of a card's two targets: what does not
pay there pays nowhere on the card. Costs are those of NES, so for batch 1 and 512 positions. Unknown costs are named
with their reason and never taken for none. Non-goals: other policies (see the replay), and measured time.
"""

from exitbench.report.figures import level_text, percent
from exitbench.score.scorecard import NOT_RECORDED, ScoreCard
from exitbench.stats.figure import Figure

__all__ = ["pays"]

_EPS = 0.05
_WORTH = 0.01
"""Savings of less than 1 % are lost in the noise of any serving stack."""
_NET = (
    ("nes_flops_copy_5pct", "FLOPs", "state copied"),
    ("nes_bytes_deferred_5pct", "bytes of memory traffic", "skipped blocks run later, in chunks"),
)
_LOSSLESS = "drafting with early depths and checking with the rest, which changes no token,"


def pays(card: ScoreCard) -> tuple[str, ...]:
    """The three sentences; one where it is not known what a threshold attains, none for a fast trace."""
    gross, ees = _value(card.aes_5pct), _value(card.ees)
    if gross is None or ees is None:
        why = card.reasons.get("aes_5pct", "")
        return () if why == NOT_RECORDED else (f"Whether early exit pays here cannot be said: {why}.",)
    return (_there_is(card, ees, gross), _it_costs(card), _so(card, ees))


def _there_is(card: ScoreCard, ees: float, gross: float) -> str:
    met = _value(card.aes_5pct_disagreement)
    broken = f" (and changed {percent(met)} of them on unseen prompts)" if met is not None and met > _EPS else ""
    return (
        f"A perfect and free detector would skip {percent(ees)} of the blocks' work; the plain confidence threshold, "
        f"allowed to change 5 % of the tokens, skips {percent(gross)}{broken}."
    )


def _never_exits(card: ScoreCard) -> bool:
    return all(threshold is None for threshold in card.aes_5pct_thresholds or ())


def _it_costs(card: ScoreCard) -> str:
    if _never_exits(card):
        return (
            "No threshold keeps to that, so no token is probed and none leaves early: nothing is won and nothing lost."
        )
    known = [
        f"{_change(saved, unit)} ({state})"
        for name, unit, state in _NET
        if (saved := _value(getattr(card, name))) is not None
    ]
    unknown = [f"in {unit} that is not known: {card.reasons[name]}" for name, unit, _ in _NET if name in card.reasons]
    paid = "Once its probes at every depth and the state of the skipped blocks are paid for, "
    if not known:
        return f"Once its probes and the state of the skipped blocks are paid for: {'; '.join(unknown)}."
    said = f"{paid}a token takes {' and '.join(known)} at batch 1 and 512 positions"
    return "; ".join([said, *unknown]) + "."


def _change(saved: float, unit: str) -> str:
    if abs(saved) < _WORTH / 10:
        return f"as many {unit} as before"
    if saved < -1:
        return f"{1 - saved:.1f} times as many {unit}"
    return f"{percent(abs(saved))} {'fewer' if saved > 0 else 'more'} {unit}"


def _so(card: ScoreCard, ees: float) -> str:
    known = {unit: saved for name, unit, _ in _NET if (saved := _value(getattr(card, name))) is not None}
    paying = [unit for unit, saved in known.items() if saved >= _WORTH]
    losing = [unit for unit, saved in known.items() if saved <= -_WORTH]
    if ees < _WORTH / 2:
        advice = "Early exit has nothing to gain here"
    elif _never_exits(card):
        advice = "Early exit by confidence does not pay here"
    elif paying:
        advice = f"Early exit can pay here in {' and in '.join(paying)}"
        advice += f", though not in {' or in '.join(losing)}" if losing else ""
        advice += ", if changing 5 % of the tokens is acceptable"
    elif not known:
        advice = "Whether early exit pays here cannot be said"
    else:
        result = "costs more than it saves" if losing else "saves next to nothing"
        advice = f"Early exit by a threshold on every depth {result} here: look at fewer depths or at signals that need"
        advice += " no readout, or leave it"
    return f"{advice}; {_drafts(card, also=bool(paying))}."


def _drafts(card: ScoreCard, *, also: bool) -> str:
    """What drafting gains; `also` if the sentence before said that early exit gains something."""
    figure, drafts = card.lossless_projection, [draft for draft in card.lossless_drafts or [] if draft is not None]
    speedup = _value(figure)
    if figure is None or speedup is None:
        return f"what {_LOSSLESS} would gain is not known ({card.reasons.get('lossless_projection', 'no value')})"
    if not drafts or speedup < 1 + _WORTH:
        return f"{_LOSSLESS} gains nothing{'' if also else ' either'}"
    depth, length = max(dict.fromkeys(drafts), key=drafts.count)
    tokens = f"{length} token{'s' if length > 1 else ''}"
    between = "" if figure.low is None else f" ({level_text(card)} interval {figure.low:.2f} to {figure.high:.2f})"
    return (
        f"drafting {tokens} at depth {depth} and checking with the rest, which changes no token, is projected at "
        f"{speedup:.2f} times the speed{between} where memory traffic decides"
    )


def _value(figure: Figure | None) -> float | None:
    return None if figure is None else figure.value
