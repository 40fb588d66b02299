"""The rule by which a comparison, and then a finding, gets one of four words.

The rule was fixed before there were results, and is a function of numbers alone (`docs/findings.md` says it in prose):

1. nothing to compare, or no p-value: undecided;
2. the 95 % interval lies within the smallest effect that matters, on both sides of 0: not supported;
3. adjusted p <= alpha: supported, or opposite, by the effect's sign; but undecided where another figure turns the
   effect round (a tie), or one that was to be looked at is missing;
4. the interval excludes an effect of the smallest size that matters, in the claimed direction: not supported;
5. anything else: undecided.

A claim is of all its comparisons: supported, or opposite, if each of them is; not supported if one of them is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from exitbench.study.finding import Turn, Verdict

__all__ = ["Ruling", "rule", "together", "turn_of"]


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """What the rule looks at."""

    value: float | None
    low: float | None
    high: float | None
    p_adjusted: float | None
    claimed: int
    """Sign of the effect if the claim holds."""
    smallest_effect: float
    alpha: float
    detectable: float | None
    """Effect that so many models show with 80 % power."""
    turned: Sequence[str]
    """Figures under which the effect turns round."""
    unseen: Sequence[str]
    """Figures that were to be looked at and are missing."""
    reason: str | None
    """Why there is no effect or no p-value."""


def rule(case: Ruling) -> tuple[Verdict, str]:
    """Judge one comparison: the word, and why in words."""
    if case.value is None or case.p_adjusted is None:
        return "undecided", case.reason or "there is nothing to compare"
    size = f"{case.smallest_effect:g}"
    if case.low is not None and case.high is not None and max(-case.low, case.high) < case.smallest_effect:
        return "not supported", f"any effect is smaller than {size}, the smallest that matters"
    if case.p_adjusted <= case.alpha and case.value != 0:
        if case.turned:
            return "undecided", f"a tie: the effect turns round under {', '.join(case.turned)}"
        if case.unseen:
            return "undecided", f"not looked at under {', '.join(case.unseen)}, as was laid down"
        agrees = case.value * case.claimed > 0
        found = f"adjusted p = {case.p_adjusted:.2g}, at most {case.alpha:g}"
        return ("supported", found) if agrees else ("opposite", f"{found}, against the claim")
    best = case.high if case.claimed > 0 else None if case.low is None else -case.low
    if best is not None and best < case.smallest_effect:
        return "not supported", f"an effect of {size} as claimed is excluded"
    missed = f"adjusted p = {case.p_adjusted:.2g}, above {case.alpha:g}"
    if case.detectable is None or case.detectable > case.smallest_effect:
        return "undecided", f"too few models: {missed}, and an effect of {size} may well have been missed"
    return "undecided", f"{missed}, and the interval holds an effect of {size}"


def together(verdicts: Sequence[Verdict], whys: Sequence[str]) -> tuple[Verdict, str]:
    """Judge a claim by its comparisons.

    Args:
        verdicts: of the comparisons it rests on.
        whys: of each, with the comparison's name.
    """
    if not verdicts:
        return "undecided", "there is nothing to compare"
    why = "; ".join(whys)
    if len(set(verdicts)) == 1:
        return verdicts[0], why
    if {"opposite", "not supported"} & set(verdicts):
        return "not supported", f"the claim is of all comparisons; {why}"
    return "undecided", f"the claim is of all comparisons; {why}"


def turn_of(effect: float, value: float | None, low: float | None, high: float | None) -> Turn | None:
    """How far another figure's effect lies on the other side than `effect`."""
    if value is None:
        return None
    if effect * value >= 0:
        return "none"
    ends = [end for end in (low, high) if end is not None]
    return "interval" if len(ends) == 2 and all(end * effect < 0 for end in ends) else "sign"
