"""How a finding's numbers are written and its models ordered, alike in its table, its Markdown and its study's page.

Non-goals: escaping, which each medium does itself (`text`).
"""

import math
import re
from collections.abc import Iterable, Mapping

from exitbench.study.finding import JudgedModel

__all__ = ["NOT_KNOWN", "TURNS", "counts_text", "effect_text", "in_order", "is_number", "p_text"]

NOT_KNOWN = "n/a"
TURNS = {"none": "same side", "sign": "other sign", "interval": "other side of 0", None: NOT_KNOWN}
"""How an effect lies to the primary one."""
_ONE = {"models": "model", "strata": "stratum", "clusters": "cluster"}
_Key = tuple[int, float, tuple[str | int, ...]]


def effect_text(value: float | None, low: float | None, high: float | None, no_interval: str | None = None) -> str:
    """E.g. "0.241 [0.184, 0.298]".

    Args:
        value: a score, or a difference of scores.
        low: of its interval.
        high: of its interval.
        no_interval: why there is none.
    """
    if value is None:
        return NOT_KNOWN
    if low is None or high is None:
        return f"{value:z.3f} [no interval{f': {no_interval}' if no_interval else ''}]"
    return f"{value:z.3f} [{low:z.3f}, {high:z.3f}]"


def p_text(p: float | None) -> str:
    """E.g. "0.003", "<0.001"."""
    return NOT_KNOWN if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def counts_text(counts: Mapping[str, int]) -> str:
    """E.g. "6 models, 3 dense, 3 moe, 1 stratum"."""
    return ", ".join(f"{count} {_ONE.get(name, name) if count == 1 else name}" for name, count in counts.items())


def in_order(models: Iterable[JudgedModel]) -> list[JudgedModel]:
    """Models by place, then by what they are compared within, then by name; those left out come last."""
    return sorted(
        models, key=lambda m: (m.left_out is not None, _key(m.place), _key(m.stratum), _key(m.label), m.revision or "")
    )


def is_number(text: str) -> bool:
    """Whether a place on an axis is written as a number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _key(text: str | None) -> _Key:
    """Numbers by size, then names with the numbers in them by size, then what is not known."""
    if text is None:
        return 2, 0.0, ()
    if is_number(text):
        return 0, float(text), ()
    return 1, 0.0, tuple(int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", text))
