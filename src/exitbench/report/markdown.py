"""The score card as Markdown, for a model card or a pull request.

Every name that comes from a model, a workload or a file is escaped; there is no raw HTML.
"""

from exitbench.env import versions_text
from exitbench.replay.result import Replay
from exitbench.report.cautions import cautions
from exitbench.report.figures import (
    Kind,
    Line,
    headline,
    interval_text,
    level_text,
    second_screen,
    subject,
    value_text,
)
from exitbench.report.pays import pays
from exitbench.report.policies import MARKS, policy_tables
from exitbench.report.text import escape_markdown
from exitbench.score.scorecard import ScoreCard

__all__ = ["markdown_card"]


def markdown_card(card: ScoreCard, replay: Replay | None = None) -> str:
    """The card's figures as tables, one a kind, under the verdict; ends with a newline.

    Args:
        card: of a trace.
        replay: of the same trace, for a table of policies.
    """
    headlines = headline(card)
    asides = tuple(
        Line(
            name=f"{line.name}: {aside.name}",
            kind=aside.kind,
            meaning=aside.meaning,
            figure=aside.figure,
            reason=aside.reason,
        )
        for line in headlines
        for aside in line.asides
    )
    lines = (*headlines, *second_screen(card), *asides)
    parts = [
        "## Early-exit suitability",
        escape_markdown(subject(card)),
        f"**{escape_markdown(card.verdict)}**",
    ]
    if sentences := pays(card):
        parts += ["### Does it pay here?", escape_markdown(" ".join(sentences))]
    for kind in Kind:
        if chosen := [line for line in lines if line.kind is kind]:
            parts += [f"### {kind.value[0].upper()}{kind.value[1:]}", _table(chosen, level_text(card))]
    parts += ["### EES by category", _categories(card)]
    if replay is not None:
        parts += ["### Exit policies", _policies(replay)]
    parts.append("### Read with care")
    parts.append("\n".join(f"- {escape_markdown(caution)}" for caution in cautions(card)))
    parts += ["### Measured with", _settings(card)]
    return "\n\n".join(parts) + "\n"


def _table(lines: list[Line], level: str) -> str:
    rows = [
        f"| figure | value | {level} interval | tokens | prompts | what it says |",
        "|---|--:|---|--:|--:|---|",
    ]
    for line in lines:
        counts = ("n/a", "n/a") if line.figure is None else (f"{line.figure.n_tokens:,}", f"{line.figure.n_prompts:,}")
        says = line.meaning if line.figure is not None else f"{line.meaning} ({line.reason})"
        cells = (line.name, value_text(line.figure), interval_text(line.figure), *counts, says)
        rows.append("| " + " | ".join(escape_markdown(cell) for cell in cells) + " |")
    return "\n".join(rows)


def _categories(card: ScoreCard) -> str:
    rows = [f"| category | EES | {level_text(card)} interval | tokens | prompts |", "|---|--:|---|--:|--:|"]
    for name, score in card.categories.items():
        cells = (
            name,
            value_text(score.ees),
            interval_text(score.ees),
            f"{score.n_tokens:,}",
            f"{score.n_prompts:,}",
        )
        rows.append("| " + " | ".join(escape_markdown(cell) for cell in cells) + " |")
    return "\n".join(rows)


def _policies(replay: Replay) -> str:
    """The last tuned target alone, without intervals: the page has the rest."""
    tables = [table for table in policy_tables(replay) if table.is_tuned and table.rows]
    if not tables:
        return "No policy is held to a tuned target here."
    table = tables[-1]
    rows = [f"| {' | '.join(table.headings)} |", f"|---|---|{'--:|' * (len(table.headings) - 2)}"]
    rows += [f"| {' | '.join(map(escape_markdown, row.short))} |" for row in table.rows]
    below = "\n".join(f"- {escape_markdown(text)}" for text in (*table.missing, f"{MARKS}."))
    return "\n\n".join([f"Held to {table.target}.", "\n".join(rows), below])


def _settings(card: ScoreCard) -> str:
    model, settings = card.model, card.settings
    facts = (
        ("model", f"{model.name} ({model.source}), revision {model.revision or 'n/a'}"),
        ("weights sha256", model.weights_sha256),
        ("quantisation", model.quantisation or "none"),
        ("blocks", f"{card.shape.num_blocks}"),
        ("workload", f"{card.workload.name} {card.workload.version}, sha256 {card.workload.sha256}"),
        (
            "mode",
            f"{settings.on}, readout {settings.readout}, {settings.dtype}, {settings.attention} attention",
        ),
        ("libraries", versions_text(card.libraries)),
        ("command", card.command),
    )
    return "\n".join(f"- {name}: {escape_markdown(value)}" for name, value in facts)
