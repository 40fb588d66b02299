"""The page's chapters: which charts stand together, and the sentence that each one's title says.

A title states the finding in the card's own numbers ("Half of the tokens are decided by depth 28 of 30"),
so that somebody who reads nothing but titles has read the report.
"""

from collections.abc import Callable
from dataclasses import dataclass

from exitbench.report.chart_parts import Chart
from exitbench.report.charts import batch_chart, category_chart, decided_chart, depth_chart
from exitbench.report.figures import level_text, percent
from exitbench.report.frontier import FrontierPoint, frontier_chart
from exitbench.report.text import visible
from exitbench.score.scorecard import ScoreCard
from exitbench.stats.figure import Curve, Figure

__all__ = ["Chapter", "chapters", "opening_chart"]


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """Charts under one heading."""

    key: str
    heading: str
    charts: tuple[Chart, ...]


def chapters(card: ScoreCard) -> tuple[Chapter, ...]:
    """The chapters after the first screen, in reading order; those of signals that were not recorded are left out."""
    all_chapters = (
        Chapter(key="depth", heading="How the prediction takes shape", charts=_by_depth(card)),
        Chapter(key="frontier", heading="What a confidence threshold attains", charts=_frontier(card)),
        Chapter(key="groups", heading="By category and by batch size", charts=_groups(card)),
    )
    return tuple(chapter for chapter in all_chapters if chapter.charts)


def opening_chart(card: ScoreCard) -> Chart:
    """The decided curve, which stands beside the headline figures."""
    num_blocks = card.shape.num_blocks
    half = _first_at_least(card.decided, 0.5)
    before_last = card.decided.value[-2]
    assert before_last is not None, "a card has at least one token"
    last = percent(1 - before_last, 0)
    title = f"Half of the tokens are decided by depth {half} of {num_blocks}; {last} only by the very last block"
    return decided_chart(card.decided, title=title, level=level_text(card))


def _by_depth(card: ScoreCard) -> tuple[Chart, ...]:
    agreement, entropy, loss, accuracy = card.agreement, card.entropy, card.loss, card.accuracy
    churn = card.top1_churn
    if agreement is None or entropy is None or loss is None or accuracy is None or churn is None:
        return ()
    middle, level = card.shape.num_blocks // 2, level_text(card)
    against = "the model's own answer" if card.target == "own answer" else "the text"

    def spoken(curve: Curve, say: Callable[[float], str]) -> str:
        by_depth = dict(zip(curve.at, curve.value, strict=True))
        values = (by_depth.get(middle), by_depth[card.shape.num_blocks])
        halfway, end = ("n/a" if value is None else say(value) for value in values)
        return f"{halfway} at depth {middle}, {end} at the end"

    return (
        depth_chart(
            agreement,
            y_title="share of tokens",
            title=f"Top-1 agrees with the full model: {spoken(agreement, _rounded)}",
            level=level,
            share=True,
        ),
        depth_chart(
            churn,
            y_title="share of tokens",
            title=f"A block changes the top-1 token: {spoken(churn, _rounded)}",
            level=level,
            share=True,
        ),
        depth_chart(
            entropy,
            y_title="mean entropy (nats)",
            title=f"Entropy of the prediction: {spoken(entropy, _nats)}",
            level=level,
        ),
        depth_chart(
            _without_depth_zero(loss),
            y_title="mean loss (nats)",
            title=f"Loss against {against}: {spoken(loss, _nats)}",
            level=level,
            note="From depth 1 on: depth 0 reads out the input token's own embedding.",
        ),
        depth_chart(
            accuracy,
            y_title="share of tokens",
            title=f"Accuracy against {against}: {spoken(accuracy, _rounded)}",
            level=level,
            note="Suitability says nothing of quality: read it beside loss and accuracy.",
            share=True,
        ),
    )


def _frontier(card: ScoreCard) -> tuple[Chart, ...]:
    if card.frontier is None:
        return ()
    marked = (
        ("AES(1 %)", card.aes_1pct, card.aes_1pct_disagreement),
        ("AES(5 %)", card.aes_5pct, card.aes_5pct_disagreement),
    )
    points = [
        FrontierPoint(label=label, savings=savings.value, disagreement=met.value)
        for label, savings, met in marked
        if savings is not None and savings.value is not None and met is not None and met.value is not None
    ]
    title = "Savings against disagreement of the plain top-1-probability threshold"
    if card.aes_1pct is not None and card.aes_1pct.value is not None:
        skipped = percent(card.aes_1pct.value)
        title = f"Held to 1 % changed tokens, a plain confidence threshold skips {skipped} of the blocks' work"
        if all(threshold is None for threshold in card.aes_1pct_thresholds or [None]):
            title = "No confidence threshold keeps to 1 % changed tokens, so none of the blocks' work is skipped"
    return (frontier_chart(card.frontier, points=points, ceiling=card.ees, title=title, level=level_text(card)),)


def _without_depth_zero(curve: Curve) -> Curve:
    """The curve without its first point, whose size would flatten the rest."""
    return Curve(axis=curve.axis, at=curve.at[1:], value=curve.value[1:], low=curve.low[1:], high=curve.high[1:])


def _groups(card: ScoreCard) -> tuple[Chart, ...]:
    by_category = {visible(name): score.ees for name, score in card.categories.items() if score.ees is not None}
    charts = [_categories(by_category, level_text(card))] if by_category else []
    first, last = card.batch.value[0], card.batch.value[-1]
    if first is None or last is None:
        title = "Savings left in lockstep batches"
    else:
        title = f"In lockstep batches of {card.batch.at[-1]:.0f} rows, {last:.3f} of EES {first:.3f} is left"
    return (*charts, batch_chart(card.batch, title=title, level=level_text(card)))


def _categories(figures: dict[str, Figure], level: str) -> Chart:
    ranked = sorted(((f.value, name) for name, f in figures.items() if f.value is not None), reverse=True)
    if len(ranked) < 2:
        return category_chart(figures, title="EES by category", level=level)
    (most, best), (least, worst) = ranked[0], ranked[-1]
    title = f"Most suited: {best} ({most:.3f}); least: {worst} ({least:.3f})"
    return category_chart(figures, title=title, level=level)


def _first_at_least(curve: Curve, share: float) -> int:
    return next(
        int(at) for at, value in zip(curve.at, curve.value, strict=True) if value is not None and value >= share
    )


def _rounded(share: float) -> str:
    return percent(share, 0)


def _nats(value: float) -> str:
    return f"{value:.2f} nats"
