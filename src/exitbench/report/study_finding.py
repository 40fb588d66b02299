"""The page's chapter on a finding: the verdict, every comparison with its tests, the models it rests on.

All numbers are the finding's own. Non-goals: computing any.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from exitbench.report.chart_parts import Chart, finished, number_tip
from exitbench.report.finding_text import NOT_KNOWN, TURNS, counts_text, effect_text, in_order, is_number, p_text
from exitbench.report.study_figures import PLAIN
from exitbench.report.text import visible
from exitbench.study.finding import Adjusted, Comparison, Finding, JudgedModel, Sensitivity

__all__ = ["FindingChapter", "Table", "finding_chapter"]

_MONTH = re.compile(r"\d{4}-\d{2}(-\d{2})?")
_AXES = {"active_params_b": "active parameters, in billions", "total_params_b": "parameters in all, in billions"}


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells of text under headings."""

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class FindingChapter:
    """The chapter as the template reads it."""

    study: str
    title: str
    verdict: str
    claim: str
    why: str
    judged_on: str
    cautions: tuple[str, ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...]
    """What so few models could have shown, and what each test rests on."""
    chart: Chart | None


def finding_chapter(finding: Finding) -> FindingChapter:
    """Everything that a page says of a finding."""
    where = [
        _title(finding.figure),
        finding.workload,
        finding.on and f"on {finding.on}",
        finding.readout and f"{finding.readout} readout",
    ]
    judged_on = (
        f"{', '.join(part for part in where if part)}; {finding.n_models} models; smallest effect "
        f"that matters {finding.smallest_effect:g}, alpha {finding.alpha:g}, Holm over {finding.n_together} comparisons"
    )
    tables = (
        _comparisons(finding.comparisons),
        _tests(finding.comparisons),
        _sensitivity(finding.comparisons),
        _models(finding.models),
    )
    return FindingChapter(
        study=finding.study,
        title=finding.title,
        verdict=finding.verdict,
        claim=finding.claim,
        why=finding.why if finding.expected is None else f"{finding.why}; expected of this control: {finding.expected}",
        judged_on=judged_on,
        cautions=tuple(finding.cautions),
        tables=tuple(table for table in tables if table.rows),
        notes=tuple(f"{c.name}: {c.power.sentence}" for c in finding.comparisons if c.power.sentence),
        chart=_chart(finding),
    )


def _comparisons(comparisons: Sequence[Comparison]) -> Table:
    return Table(
        caption="Effects",
        headings=(
            "comparison",
            "verdict",
            "effect, 95 % interval",
            "p",
            "p, adjusted",
            "standardised",
            "models",
            "why",
        ),
        rows=tuple(
            (
                c.name if c.judged else f"{c.name} (shown only)",
                c.verdict,
                f"{effect_text(c.value, c.low, c.high)} {c.unit}".strip() if c.value is not None else NOT_KNOWN,
                p_text(c.p),
                p_text(c.p_adjusted),
                f"{c.standardised_as} {_number(c.standardised)}",
                counts_text(c.counts),
                c.why if c.reason is None else c.reason,
            )
            for c in comparisons
        ),
    )


def _tests(comparisons: Sequence[Comparison]) -> Table:
    return Table(
        caption="Tests of each effect",
        headings=("comparison", "test", "effect, 95 % interval", "p", "rests on"),
        rows=tuple(
            (
                c.name,
                f"{test.test} (decides)" if test.test in c.decided_by else test.test,
                effect_text(test.value, test.low, test.high, test.no_interval),
                p_text(test.p) if test.reason is None else f"{NOT_KNOWN}: {test.reason}",
                test.rests_on,
            )
            for c in comparisons
            for test in c.tests
        ),
    )


def _sensitivity(comparisons: Sequence[Comparison]) -> Table:
    def line(c: Comparison, name: str, found: Sensitivity | Adjusted) -> tuple[str, ...]:
        turn = found.reason or TURNS[found.turn]
        return (
            c.name,
            name,
            effect_text(found.value, found.low, found.high),
            p_text(found.p),
            str(found.n_models),
            turn,
        )

    rows = [line(c, _title(found.figure), found) for c in comparisons for found in c.sensitivity]
    rows += [
        line(c, f"adjusted for {', '.join(c.adjusted.covariates) or 'nothing'}", c.adjusted)
        for c in comparisons
        if c.adjusted is not None
    ]
    return Table(
        caption="The same under other figures, and with covariates held fixed",
        headings=(
            "comparison",
            "figure",
            "effect, 95 % interval",
            "p, not adjusted",
            "models",
            "compared with the effect",
        ),
        rows=tuple(rows),
    )


def _models(models: Sequence[JudgedModel]) -> Table:
    return Table(
        caption="Models",
        headings=("model", "place", "compared within", "figure, 95 % interval", "prompts", "takes part"),
        rows=tuple(
            (
                model.label,
                model.place or NOT_KNOWN,
                model.stratum or "all",
                effect_text(model.value, model.low, model.high),
                NOT_KNOWN if model.n_prompts is None else str(model.n_prompts),
                "yes" if model.left_out is None else f"no: {model.left_out}",
            )
            for model in in_order(models)
        ),
    )


def _chart(finding: Finding) -> Chart | None:
    """The primary figure of every model that took part, over its group or its place on the axis."""
    judged = [m for m in finding.models if m.left_out is None and m.value is not None and m.place is not None]
    if not judged:
        return None
    places = [str(model.place) for model in judged]
    rows = [
        {
            "place": float(place) if is_number(place) else visible(place),
            "name": visible(model.label),
            "value": model.value,
            "low": model.low,
            "high": model.high,
            "stratum": visible(model.stratum or "all"),
        }
        for place, model in zip(places, judged, strict=True)
    ]
    base = alt.Chart(alt.InlineData(values=rows)).encode(x=_place_axis(finding, places))
    tips = [
        alt.Tooltip("name:N", title="model"),
        alt.Tooltip("stratum:N", title="compared within"),
        number_tip("value", visible(_title(finding.figure)), ".3f"),
        number_tip("low", "95 % low", ".3f"),
        number_tip("high", "95 % high", ".3f"),
    ]
    y = alt.Y("value:Q", title=visible(_title(finding.figure)), scale=alt.Scale(zero=False, padding=10))
    jitter = {} if _is_axis(places) else {"xOffset": alt.XOffset("name:N")}
    layers = [
        base.mark_rule(style="whisker").encode(y="low:Q", y2="high:Q", **jitter),
        base.mark_point(filled=True, opacity=1, size=70).encode(y=y, tooltip=tips, **jitter),
    ]
    title = f"{visible(_title(finding.figure))} of the {len(judged)} models that were judged"
    note = "Bars are 95 % intervals over prompts of each model alone; the tests rest on how models differ."
    return finished(layers, title=title, note=note, height=300)


def _place_axis(finding: Finding, places: list[str]) -> alt.X:
    if all(map(is_number, places)):
        scale = alt.Scale(type="log") if finding.question == "size" else alt.Scale(zero=False)
        factor = str(finding.spec.get("factor", "place"))
        title = _AXES.get(factor, factor.replace("_", " "))
        return alt.X("place:Q", title=visible(title), scale=scale)
    if all(map(_MONTH.fullmatch, places)):
        return alt.X("place:T", title="release", axis=alt.Axis(format="%Y-%m"))
    return alt.X("place:N", title=None, axis=alt.Axis(labelAngle=0))


def _is_axis(places: list[str]) -> bool:
    return all(map(is_number, places)) or all(map(_MONTH.fullmatch, places))


def _title(figure: str) -> str:
    """A figure as the rest of the page names it."""
    return next((known.title for known in PLAIN if known.name == figure), figure)


def _number(value: float | None) -> str:
    return NOT_KNOWN if value is None else f"{value:z.2f}"
