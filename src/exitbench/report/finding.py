"""Findings for a terminal, as one table, and for people, as a page of Markdown.

The page says, in this order: what was claimed and what came of it, what was fixed beforehand, the models, every
comparison with every test of it, what other figures say, and what so few models could have shown.

Non-goals: computing anything; the record has it all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from exitbench.report.finding_text import NOT_KNOWN, TURNS, counts_text, effect_text, in_order, p_text
from exitbench.report.text import escape_markdown, plain
from exitbench.stats.evidence import Evidence
from exitbench.study.finding import Adjusted, Comparison, Finding, JudgedModel, Sensitivity

__all__ = ["FINDINGS_WIDTH", "Summary", "findings_table", "markdown_findings", "markdown_summary", "summary_of"]

FINDINGS_WIDTH = 150
"""Characters that the table takes, claims wrapped."""
_HEADINGS = ("claim", "models", "effect [95 % interval]", "adjusted p", "by", "verdict")
_ELSEWHERE = ("models", "effect [95 % interval]", "p, not adjusted", "against the primary")
_TESTS = {"permutation": "permutation", "t": "t-test", "clustered": "t-test, clustered"}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Findings that were judged together, in short; every text is as it was recorded."""

    headings: tuple[str, ...]
    rows: tuple[tuple[list[str], ...], ...]
    """One a finding: of each cell its lines."""
    reasons: tuple[str, ...]
    """Why each verdict is what it is."""
    correction: str
    """Over what p-values were adjusted."""


def summary_of(findings: Sequence[Finding]) -> Summary:
    """One row a finding, and of each why."""
    return Summary(
        headings=_HEADINGS,
        rows=tuple(map(_summary, findings)),
        reasons=tuple(f"{finding.study}: {finding.verdict}: {finding.why}" for finding in findings),
        correction=_correction(findings),
    )


def findings_table(findings: Sequence[Finding]) -> RenderableType:
    """One row a finding, and below each why."""
    summary = summary_of(findings)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in summary.headings:
        table.add_column(Text(heading), justify="right" if heading == "models" else "left")
    for row in summary.rows:
        table.add_row(*(Text("\n".join(map(plain, cell))) for cell in row))
    reasons = [Text(plain(reason)) for reason in summary.reasons]
    return Group(table, *reasons, Text(summary.correction, style="dim"))


def markdown_findings(findings: Sequence[Finding]) -> str:
    """A page on findings that were judged together; ends with a newline."""
    parts = ["# Findings", *_in_short(findings)]
    for finding in findings:
        parts += _chapter(finding)
    return "\n\n".join(parts) + "\n"


def markdown_summary(findings: Sequence[Finding]) -> str:
    """The table of findings that were judged together, and of each why."""
    reasons = "\n".join(f"- {escape_markdown(reason)}" for reason in summary_of(findings).reasons)
    return "\n\n".join([*_in_short(findings), reasons])


def _in_short(findings: Sequence[Finding]) -> Iterator[str]:
    summary = summary_of(findings)
    yield _table(summary.headings, ([" ; ".join(cell) for cell in row] for row in summary.rows))
    yield escape_markdown(summary.correction)


def _summary(finding: Finding) -> tuple[list[str], ...]:
    """Lines of each cell of a finding's row."""
    judged = [comparison for comparison in finding.comparisons if comparison.judged]
    several = len(judged) > 1
    effects = [f"{c.name}: {_effect(c)}" if several or c.unit != finding.figure else _effect(c) for c in judged]
    return (
        [finding.claim],
        [str(finding.n_models)],
        effects,
        [p_text(c.p_adjusted) for c in judged],
        [_by(c) for c in judged],
        [finding.verdict if finding.expected is None else f"{finding.verdict} (expected: {finding.expected})"],
    )


def _correction(findings: Sequence[Finding]) -> str:
    for_claims = max((f.n_together for f in findings if f.expected is None), default=0)
    for_controls = max((f.n_together for f in findings if f.expected is not None), default=0)
    text = f"Adjusted: Holm over all comparisons of claims here ({for_claims})"
    return f"{text}, and over those of controls ({for_controls})." if for_controls else f"{text}."


def _chapter(finding: Finding) -> Iterator[str]:
    yield f"## {escape_markdown(finding.title)}"
    yield f"Claim: {escape_markdown(finding.claim)}"
    yield f"**{finding.verdict}**: {escape_markdown(finding.why)}."
    if finding.expected is not None:
        yield f"A control, expected to be {finding.expected}."
    yield "### Fixed beforehand"
    yield "\n".join(f"- {escape_markdown(line)}" for line in _fixed(finding))
    yield "### Models"
    yield _models(finding)
    yield "### Comparisons"
    yield _comparisons(finding)
    yield _tests(finding)
    if any(comparison.sensitivity for comparison in finding.comparisons):
        yield "### Under other figures"
        yield _sensitivity(finding)
    if any(comparison.adjusted for comparison in finding.comparisons):
        yield "### With covariates held fixed"
        yield _adjusted(finding)
    yield "### What so many models can show"
    yield "\n".join(f"- {escape_markdown(f'{c.name}: {c.power.sentence}')}" for c in finding.comparisons)
    if finding.cautions:
        yield "### Read with care"
        yield "\n".join(f"- {escape_markdown(caution)}" for caution in finding.cautions)
    yield escape_markdown(f"exitbench {finding.exitbench}: {finding.command}")


def _fixed(finding: Finding) -> Iterator[str]:
    """What the section says, defaults written out, one line a key."""
    where = (finding.workload, finding.on, finding.readout)
    yield f"judged on: {', '.join(part for part in where if part)}"
    for key, value in finding.spec.items():
        if key not in ("claim", "workload", "on", "readout"):
            yield f"{key}: {_plainly(value)}"


def _plainly(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {_plainly(part)}" for key, part in value.items() if part not in (None, []))
    if isinstance(value, list | tuple):
        return "; ".join(map(_plainly, value)) or "none"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _models(finding: Finding) -> str:
    facts = list(dict.fromkeys(name for model in finding.models for name in model.facts))
    headings = ["model", "checkpoint", "place", "within", "cluster", finding.figure, "tokens", "prompts", *facts]
    return _table([*headings, "left out"], (_model(model, facts) for model in in_order(finding.models)))


def _model(model: JudgedModel, facts: Sequence[str]) -> list[str]:
    checkpoint = model.revision or ("" if model.step is None else f"step {model.step}")
    counts = [NOT_KNOWN if n is None else f"{n:,}" for n in (model.n_tokens, model.n_prompts)]
    known = [_fact(model.facts.get(name)) for name in facts]
    place = [text or "" for text in (model.place, model.stratum, model.cluster)]
    figure = effect_text(model.value, model.low, model.high)
    return [model.label, checkpoint, *place, figure, *counts, *known, model.left_out or ""]


def _fact(value: float | str | bool | None) -> str:
    if value is None:
        return NOT_KNOWN
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() else f"{value:.4g}"
    return str(value)


def _comparisons(finding: Finding) -> str:
    headings = ("comparison", "n", "effect [95 % interval]", "unit", "standardised", "p", "adjusted p", "by", "verdict")
    return _table(
        headings,
        (
            (
                c.name,
                counts_text(c.counts),
                _effect(c),
                c.unit,
                NOT_KNOWN if c.standardised is None else f"{c.standardised_as} {c.standardised:z.2f}",
                p_text(c.p),
                p_text(c.p_adjusted),
                _by(c),
                c.verdict if c.judged else "shown only",
            )
            for c in finding.comparisons
        ),
    )


def _tests(finding: Finding) -> str:
    headings = ("comparison", "test", "effect [95 % interval]", "p", "smallest p possible", "df", "rests on")
    rows = ((c, test) for c in finding.comparisons for test in c.tests)
    return _table(headings, ((c.name, *_test(test)) for c, test in rows))


def _test(test: Evidence) -> tuple[str, ...]:
    p = f"{NOT_KNOWN} ({test.reason})" if test.p is None else p_text(test.p)
    floor = "" if test.test != "permutation" else p_text(test.floor)
    sampled = " (a sample of arrangements)" if test.exact is False else ""
    df = "" if test.df is None else f"{test.df:.1f}"
    effect = effect_text(test.value, test.low, test.high, test.no_interval)
    return _TESTS[test.test] + sampled, effect, p, floor, df, test.rests_on


def _elsewhere(other: Sensitivity | Adjusted) -> tuple[str, str, str, str]:
    """Cells under `_ELSEWHERE`."""
    reason = f"{NOT_KNOWN} ({other.reason})"
    effect = reason if other.value is None else effect_text(other.value, other.low, other.high)
    return str(other.n_models), effect, p_text(other.p), TURNS[other.turn]


def _sensitivity(finding: Finding) -> str:
    headings = ("comparison", "figure", *_ELSEWHERE)
    rows = ((c, other) for c in finding.comparisons for other in c.sensitivity)
    return _table(
        headings,
        (
            (
                c.name,
                other.figure,
                *_elsewhere(other),
            )
            for c, other in rows
        ),
    )


def _adjusted(finding: Finding) -> str:
    headings = ("comparison", "held fixed", *_ELSEWHERE)
    rows = ((c.name, c.adjusted) for c in finding.comparisons if c.adjusted is not None)
    return _table(
        headings,
        (
            (
                name,
                ", ".join(held.covariates) or "none that differs",
                *_elsewhere(held),
            )
            for name, held in rows
        ),
    )


def _effect(comparison: Comparison) -> str:
    if comparison.value is None:
        return f"{NOT_KNOWN} ({comparison.reason})"
    per = comparison.unit.partition(" per ")[2]
    return effect_text(comparison.value, comparison.low, comparison.high) + (f" per {per}" if per else "")


def _by(comparison: Comparison) -> str:
    """The deciding tests; where it is no permutation test, how small a p-value that could have given."""
    floor = next((test.floor for test in comparison.tests if test.test == "permutation"), None)
    names = " and ".join(_TESTS[name] for name in comparison.decided_by) or NOT_KNOWN
    if floor is None or "permutation" in comparison.decided_by:
        return names
    return f"{names} (permutation: at least {p_text(floor)})"


def _table(headings: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    head, *body = ["| " + " | ".join(map(escape_markdown, line)) + " |" for line in (headings, *rows)]
    return "\n".join([head, "|" + " --- |" * len(headings), *body])
