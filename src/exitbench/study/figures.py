"""Score cards and replays as figures for rows: one number each, or the reason why there is none.

Names are those of the card; of policies, see `POLICY_FIGURES`. Non-goals: computing anything, and figures by category.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from exitbench.replay.result import Replay
from exitbench.score.scorecard import ScoreCard
from exitbench.stats.figure import Curve, Figure

__all__ = ["POLICY_FIGURES", "Found", "card_figures", "no_policy_figures", "replay_figures"]

_FIGURES = (Figure, Figure | None)
_CURVES = (Curve, Curve | None)
_UNITS = {"entropy": "nats", "loss": "nats", "bits_per_character": "bits", "lossless_projection": "ratio"}
_SHARE = "share"

POLICY_FIGURES = {
    "policy_savings": "saved_blocks",
    "policy_disagreement": "disagreement",
    "policy_net_flops": "net_flops_copy",
    "policy_net_bytes": "net_bytes_deferred",
    "policy_detectability": "detectability",
    "policy_over_plain": "over_plain",
}
"""Figure of a row -> field of an operating point. The variant names policy and probes, the target what it is held to."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """The part of a row that is about one figure; fields as there."""

    figure: str
    variant: str | None = None
    target: str | None = None
    depth: int | None = None
    other_depth: int | None = None
    at: float | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n_tokens: int | None = None
    n_prompts: int | None = None
    unit: str | None = None
    reason: str | None = None

    @property
    def status(self) -> Literal["ok", "missing"]:
        """Whether there is a value."""
        return "missing" if self.value is None else "ok"


def card_figures(card: ScoreCard) -> Iterator[Found]:
    """Every figure and curve of a card, EAS at every alpha, and how many samples failed."""
    counts = {"n_tokens": card.n_tokens, "n_prompts": card.n_prompts}
    yield Found(figure="n_failed", value=card.n_failed, unit="samples", **counts)
    for name, field in ScoreCard.model_fields.items():
        value, unit = getattr(card, name), _UNITS.get(name, _SHARE)
        if field.annotation in _FIGURES:
            yield _figure(name, value, card.reasons.get(name), unit)
        elif field.annotation in _CURVES and value is not None:
            yield from _curve(name, value, unit, counts)
        elif field.annotation in _CURVES:
            yield Found(figure=name, unit=unit, reason=card.reasons[name])
    for score in card.eas or ():
        yield from _curve("eas", score.by_alpha, _SHARE, counts, variant=score.similarity)


def _figure(name: str, figure: Figure | None, reason: str | None, unit: str, **place: Any) -> Found:
    if figure is None:
        return Found(figure=name, unit=unit, reason=reason, **place)
    why = "it is not defined on these tokens" if figure.value is None else None
    return Found(figure=name, unit=unit, reason=why, **figure.model_dump(), **place)


def _curve(name: str, curve: Curve, unit: str, counts: dict[str, int], **place: Any) -> Iterator[Found]:
    """One figure a point; its place is a depth where the axis is one."""
    for at, value, low, high in zip(curve.at, curve.value, curve.low, curve.high, strict=True):
        where = {"depth": int(at)} if curve.axis == "depth" else {"at": float(at)}
        reason = "no token to take it over" if value is None else None
        yield Found(figure=name, value=value, low=low, high=high, unit=unit, reason=reason, **where, **counts, **place)


def replay_figures(replay: Replay, variants: Sequence[tuple[str, str]]) -> Iterator[Found]:
    """What policies save and change at every target.

    Args:
        replay: of the cell's trace.
        variants: (policy, probes) to report; a replay also compares the plain threshold and the best of all.
    """
    for point in replay.points:
        if (point.policy, point.probes) not in variants:
            continue
        place = {
            "variant": _variant(point.policy, point.probes),
            "target": f"{point.procedure} {point.risk} {point.eps:g}",
        }
        for name, field in POLICY_FIGURES.items():
            yield _figure(name, getattr(point, field), point.reasons.get(field), _SHARE, **place)


def no_policy_figures(reason: str, variants: Sequence[tuple[str, str]]) -> Iterator[Found]:
    """The same where nothing could be replayed."""
    for policy, probes in variants:
        yield Found(figure="policy_savings", variant=_variant(policy, probes), unit=_SHARE, reason=reason)


def _variant(policy: str, probes: str) -> str:
    return f"{policy} {probes}"
