"""What was measured as figures for rows: one number each, or the reason why it, or its interval, is not there.

Names are those of the records; of policies, see `POLICY_FIGURES`. Counts are of the tokens behind a figure, which for
some are a draw of all. `figures_made` tells the names before anything is measured. Non-goals: computing, and figures by
category.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from exitbench.config import Mode
from exitbench.policies import POLICIES
from exitbench.replay.assemble import SCHEDULES, TARGETS, at_schedules
from exitbench.replay.points import OperatingPoint
from exitbench.replay.result import Replay
from exitbench.replay.targets import Target
from exitbench.representation.record import Pairs, Representation
from exitbench.score.adaptability import ALPHAS, SIMILARITIES
from exitbench.score.from_decisions import BATCH_SIZES
from exitbench.score.scorecard import ScoreCard
from exitbench.stats.bootstrap import MIN_PROMPTS
from exitbench.stats.figure import Curve, Figure
from exitbench.stats.reasoned import Reasoned
from exitbench.study.spec import PolicyEntry

if TYPE_CHECKING:
    from exitbench.study.untrained import Untrained

__all__ = [
    "POLICY_FIGURES",
    "Found",
    "Several",
    "card_figures",
    "figures_made",
    "no_policy_figures",
    "replay_figures",
    "representation_figures",
    "untrained_figures",
]

_FIGURES = (Figure, Figure | None)
_CURVES = (Curve, Curve | None)
_UNITS = {
    **dict.fromkeys(("entropy", "loss"), "nats"),
    **dict.fromkeys(("cosine_previous", "anisotropy"), "cosine"),
    **dict.fromkeys(("lossless_projection", "norm_growth"), "ratio"),
    "bits_per_character": "bits",
    "effective_rank": "dimensions",
    "residual_norm": "norm",
}
"""Of figures that are no shares."""
_SHARE = "share"
_NO_INTERVAL = "no interval"
"""How the reason of a figure begins that has a value and no interval."""
_PAIRS = (Pairs, Pairs | None)
_ON: dict[str, tuple[Mode, ...]] = {
    **dict.fromkeys(("ees_correct", "ees_per_character", "bits_per_character"), ("text",)),
    **dict.fromkeys(("generated_mismatch", "loop_share", "ees_without_loops"), ("answers",)),
    "max_skip": (),
}
"""Figures of a card that have no value in every mode."""

POLICY_FIGURES = {
    "policy_savings": "saved_blocks",
    "policy_disagreement": "disagreement",
    "policy_net_flops": "net_flops_copy",
    "policy_net_bytes": "net_bytes_deferred",
    "policy_detectability": "detectability",
    "policy_over_plain": "over_plain",
}
"""Figure of a row -> field of an operating point; the variant names policy and probes."""


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
    """Why there is no value or no interval; None where there are both."""

    @property
    def status(self) -> Literal["ok", "missing"]:
        """Whether there is a value."""
        return "missing" if self.value is None else "ok"


@dataclass(frozen=True, kw_only=True)
class Several:
    """Which rows one cell has of a figure; an empty column tells none apart."""

    variant: tuple[str, ...] | None = ()
    """None where they are not known before."""
    target: tuple[str, ...] = ()
    at: tuple[float, ...] = ()
    by_depth: bool = False
    on: tuple[Mode, ...] = ("answers", "text")
    """Where it may have a value."""


def figures_made(policies: Sequence[PolicyEntry] = ()) -> dict[str, dict[str, Several]]:
    """What each key of a spec that asks for figures makes: "score", .., "policies" -> figure -> which rows of it.

    Args:
        policies: of the spec.
    """
    named = [entry for entry in policies if not entry.policy.endswith(".json")]
    variants = [
        f"{policy.name} {policy.schedule.text}"
        for entry in named
        for policy in at_schedules(POLICIES.get(entry.policy), entry.probes or SCHEDULES)
    ]
    by_policy = Several(
        variant=tuple(dict.fromkeys(variants)) if len(named) == len(policies) else None,
        target=tuple(_target(target) for target in TARGETS),
    )
    card = _several(ScoreCard) | {"batch": Several(at=BATCH_SIZES), "eas": Several(variant=SIMILARITIES, at=ALPHAS)}
    return {
        "score": card | {"n_failed": Several()},
        "representation": _several(Representation),
        "untrained": {"ees_untrained_mean": Several(), "ees_untrained": Several(variant=None)},
        "policies": dict.fromkeys(POLICY_FIGURES, by_policy),
    }


def _several(record: type[Reasoned]) -> dict[str, Several]:
    """The figures of a record, which are single ones or by depth."""
    return {
        name: Several(by_depth=field.annotation not in _FIGURES, on=_ON.get(name, Several.on))
        for name, field in record.model_fields.items()
        if field.annotation in (*_FIGURES, *_CURVES, *_PAIRS)
    }


def card_figures(card: ScoreCard) -> Iterator[Found]:
    """Every figure and curve of a card, EAS at every alpha, and how many samples failed."""
    counts: dict[str, Any] = {"n_tokens": card.n_tokens, "n_prompts": card.n_prompts}
    reason = f"{_NO_INTERVAL}: it is a count"
    yield Found(figure="n_failed", value=float(card.n_failed), unit="samples", reason=reason, **counts)
    yield from _fields(card, counts)
    for score in card.eas or ():
        yield from _curve("eas", score.by_alpha, _SHARE, counts, variant=score.similarity)


def representation_figures(record: Representation) -> Iterator[Found]:
    """How hidden states change with depth: every curve, and every pair of depths."""
    drawn = {
        "effective_rank": record.n_rank_tokens,
        "angular_distance": record.n_sequences,
        "cka": record.n_minibatches * record.minibatch_tokens,
    }
    counts = {"n_tokens": record.n_tokens, "n_prompts": record.n_prompts}
    for found in (*_fields(record, counts), *_pairs(record, counts)):
        if found.value is None:
            yield found
            continue
        why = record.no_interval.get(found.figure)
        reason = found.reason if found.low is not None or why is None else f"{_NO_INTERVAL}: {why}"
        yield replace(found, n_tokens=drawn.get(found.figure, found.n_tokens), reason=reason)


def untrained_figures(record: "Untrained") -> Iterator[Found]:
    """EES of every untrained twin, and their mean."""
    counts: dict[str, Any] = {"n_tokens": record.n_tokens, "n_prompts": record.n_prompts}
    spread = f"{_NO_INTERVAL}: twins differ by their seeds, see the spread of ees_untrained"
    reason = record.reasons.get("mean", spread)
    yield Found(figure="ees_untrained_mean", value=record.mean, unit=_SHARE, reason=reason, **counts)
    for seed, ees in zip(record.seeds, record.ees or (), strict=record.ees is not None):
        yield Found(figure="ees_untrained", variant=str(seed), value=ees, unit=_SHARE, reason=spread, **counts)


def _fields(record: Reasoned, counts: dict[str, Any]) -> Iterator[Found]:
    """The fields of a record that are figures or curves."""
    for name, field in type(record).model_fields.items():
        value, unit = getattr(record, name), _UNITS.get(name, _SHARE)
        if field.annotation in _FIGURES:
            yield _figure(name, value, record.reasons.get(name), unit)
        elif field.annotation in _CURVES and value is not None:
            yield from _curve(name, value, unit, counts)
        elif field.annotation in _CURVES:
            yield Found(figure=name, unit=unit, reason=record.reasons[name])


def _pairs(record: Representation, counts: dict[str, Any]) -> Iterator[Found]:
    """The fields of a record that are figures of two depths."""
    for name, field in Representation.model_fields.items():
        if field.annotation not in _PAIRS:
            continue
        pairs: Pairs | None = getattr(record, name)
        if pairs is None:
            yield Found(figure=name, unit=_SHARE, reason=record.reasons[name])
            continue
        columns = (pairs.depth, pairs.other_depth, pairs.value, pairs.low, pairs.high)
        for depth, other, value, low, high in zip(*columns, strict=True):
            yield _found(name, (value, low, high), _SHARE, counts, depth=depth, other_depth=other)


def _figure(name: str, figure: Figure | None, reason: str | None, unit: str, **place: Any) -> Found:
    if figure is None:
        return Found(figure=name, unit=unit, reason=reason, **place)
    counts = {"n_tokens": figure.n_tokens, "n_prompts": figure.n_prompts}
    return _found(name, (figure.value, figure.low, figure.high), unit, counts, **place)


def _curve(name: str, curve: Curve, unit: str, counts: dict[str, Any], **place: Any) -> Iterator[Found]:
    """One figure a point; its place is a depth where the axis is one."""
    for at, *numbers in zip(curve.at, curve.value, curve.low, curve.high, strict=True):
        where: dict[str, Any] = {"depth": int(at)} if curve.axis == "depth" else {"at": float(at)}
        yield _found(name, numbers, unit, counts, **where, **place)


def _found(name: str, numbers: Sequence[float | None], unit: str, counts: dict[str, Any], **place: Any) -> Found:
    """A figure from its value, low and high, with why one of them is not there."""
    value, low, high = numbers
    reason = None
    if value is None:
        reason = "it is not defined on these tokens"
    elif low is None or high is None:
        few = counts["n_prompts"] < MIN_PROMPTS
        lacks = f"needs at least {MIN_PROMPTS} prompts, got {counts['n_prompts']}"
        reason = f"{_NO_INTERVAL}: {lacks if few else 'a resample of the prompts leaves it undefined'}"
    return Found(figure=name, value=value, low=low, high=high, unit=unit, reason=reason, **counts, **place)


def replay_figures(replay: Replay, variants: Sequence[str | None]) -> Iterator[Found]:
    """What policies save and change at every target.

    Args:
        replay: of the cell's trace.
        variants: how rows name the policies that were given to the replay, in that order; None leaves one out. The best
            of all, which a replay adds, is left out too.
    """
    for target, points in groupby(replay.points, key=_target):
        for point, variant in zip(points, variants, strict=False):
            if variant is None:
                continue
            for name, field in POLICY_FIGURES.items():
                reason = point.reasons.get(field)
                yield _figure(name, getattr(point, field), reason, _SHARE, variant=variant, target=target)


def no_policy_figures(reason: str, variants: Sequence[str | None]) -> Iterator[Found]:
    """The same where nothing could be replayed."""
    for variant in variants:
        if variant is not None:
            yield Found(figure="policy_savings", variant=variant, unit=_SHARE, reason=reason)


def _target(held_to: OperatingPoint | Target) -> str:
    return f"{held_to.procedure} {held_to.risk} {held_to.eps:g}"
