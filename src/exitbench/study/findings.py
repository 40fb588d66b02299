"""Judging findings: the rows of a study and the section that was fixed beforehand become a record.

Findings that are shown side by side are judged together: p-values are adjusted over all comparisons that any of their
verdicts rests on (Holm), controls among themselves. Which test decides is a matter of counts alone: the permutation
test where its smallest p-value is at most alpha over the number of comparisons, so that the adjustment can still be
passed; else the t-test. Where models are clustered, the larger of that p-value and the clustered one counts.

Non-goals: the tests (`stats`), the words (`verdict`), showing anything (`report`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from exitbench import __version__
from exitbench.stats.compare import holm
from exitbench.stats.evidence import Evidence, TestName
from exitbench.stats.regression import detectable
from exitbench.study.contrasts import Contrast, Tested, adjust, contrasts, measured, missing
from exitbench.study.finding import Adjusted, Comparison, Finding, Power, Sensitivity
from exitbench.study.finding_spec import ControlSpec, FigureRef, FindingSpec
from exitbench.study.planned import Plan
from exitbench.study.roll import Roll, call_roll
from exitbench.study.rows import Row
from exitbench.study.verdict import Ruling, rule, together, turn_of

__all__ = ["Case", "judge", "judge_together"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A finding to be judged."""

    rows: Sequence[Row]
    """Of its study."""
    spec: FindingSpec
    study: str
    title: str
    plan: Plan | None = None
    """What was to be measured, if the study left word of it."""


@dataclass(frozen=True, kw_only=True)
class _Heard:
    """A comparison before it is judged."""

    contrast: Contrast
    tested: Tested
    reason: str | None
    """Why it has no p-value."""

    def test(self, name: TestName) -> Evidence | None:
        """One of its tests."""
        return next((evidence for evidence in self.tested.evidence if evidence.test == name), None)


@dataclass(frozen=True, kw_only=True)
class _Decision:
    """The effect and the p-value of a comparison, by the tests that count."""

    by: list[TestName]
    value: float | None
    low: float | None
    high: float | None
    p: float | None


def judge(case: Case, *, command: str = "") -> Finding:
    """Judge one finding on its own."""
    return judge_together([case], command=command)[0]


def judge_together(cases: Sequence[Case], *, command: str = "") -> list[Finding]:
    """Judge findings with one correction for all of them.

    Args:
        cases: findings, each with the rows of its study.
        command: as typed.

    Raises:
        ReportError: rows that do not say which figure is meant.
    """
    rolls = [call_roll(case.rows, case.spec, case.plan) for case in cases]
    heard = [_hear(case.spec, roll) for case, roll in zip(cases, rolls, strict=True)]
    findings: dict[int, Finding] = {}
    for controls in (False, True):
        own = [index for index, case in enumerate(cases) if isinstance(case.spec, ControlSpec) == controls]
        decided = [index for index in own if not rolls[index].hindrances]
        judged = [
            (index, one) for index in decided for one in heard[index] if one.contrast.judged and one.reason is None
        ]
        many = len(judged)
        decisions = {id(one): _decide(one, cases[index].spec, many) for index, one in judged}
        p_values = [decision.p for decision in decisions.values() if decision.p is not None]
        assert len(p_values) == many, "a comparison without a p-value has a reason"
        adjusted = dict(zip(decisions, holm(p_values), strict=True)) if many else {}
        for index in own:
            comparisons = [
                _judged(
                    one,
                    cases[index].spec,
                    rolls[index],
                    decisions.get(id(one)) or _decide(one, cases[index].spec, max(many, 1)),
                    adjusted.get(id(one)),
                    max(many, 1),
                )
                for one in heard[index]
            ]
            compared = {label for one in heard[index] for label in one.tested.labels}
            findings[index] = _finding(cases[index], rolls[index], comparisons, compared, many, command)
    return [findings[index] for index in range(len(cases))]


def _hear(spec: FindingSpec, roll: Roll) -> list[_Heard]:
    heard = []
    with_lacking = contrasts(spec, (*roll.taking_part, *roll.lacking))
    for contrast, fuller in zip(contrasts(spec, roll.taking_part), with_lacking, strict=True):
        tested = measured(contrast, spec.primary, cluster=spec.cluster)
        tests = {evidence.test: evidence for evidence in tested.evidence}
        clustered = tests.get("clustered")
        reason = contrast.reason or tests["permutation"].reason
        if reason is not None:
            reason = missing(fuller, spec.primary) or reason
        if reason is None and clustered is not None and clustered.p is None:
            reason = f"models of one {spec.cluster} are not independent, and: {clustered.reason}"
        heard.append(_Heard(contrast=contrast, tested=tested, reason=reason))
    return heard


def _decide(one: _Heard, spec: FindingSpec, many: int) -> _Decision:
    """Choose the tests that count, by counts alone."""
    permutation, student, clustered = one.test("permutation"), one.test("t"), one.test("clustered")
    assert permutation is not None
    assert student is not None
    attainable = permutation.floor is not None and permutation.floor <= spec.alpha / many
    base = permutation if attainable or student.p is None else student
    counting = [base] if clustered is None else [base, clustered]
    lows, highs = [test.low for test in counting], [test.high for test in counting]
    ps = [test.p for test in counting if test.p is not None]
    return _Decision(
        by=[test.test for test in counting],
        value=base.value,
        low=None if None in lows else min(low for low in lows if low is not None),
        high=None if None in highs else max(high for high in highs if high is not None),
        p=max(ps) if len(ps) == len(counting) else None,
    )


def _judged(
    one: _Heard, spec: FindingSpec, roll: Roll, decision: _Decision, p_adjusted: float | None, many: int
) -> Comparison:
    contrast = one.contrast
    sensitivity = [
        _sensitivity(contrast, ref, spec, decision, many) for wanted in spec.sensitivity for ref in roll.expand(wanted)
    ]
    adjusted = _adjusted(contrast, spec, decision) if spec.covariates else None
    turns = ("sign", "interval") if spec.turns == "sign" else ("interval",)
    turned = [other.figure for other in sensitivity if other.turn in turns]
    if adjusted is not None and adjusted.turn == "interval":
        turned.append(f"{spec.primary.text} with {', '.join(adjusted.covariates)} held fixed")
    power = _power(one, spec, many)
    verdict, why = rule(
        Ruling(
            value=decision.value,
            low=decision.low,
            high=decision.high,
            p_adjusted=p_adjusted,
            claimed=1 if contrast.claimed == "positive" else -1,
            smallest_effect=spec.smallest_effect,
            alpha=spec.alpha,
            detectable=power.detectable,
            turned=turned,
            unseen=[other.figure for other in sensitivity if other.value is None],
            reason=one.reason or (None if contrast.judged else "shown only; the verdict rests on another comparison"),
        )
    )
    if contrast.judged and roll.hindrances:
        verdict, why = "undecided", "; ".join(roll.hindrances)
    return Comparison(
        name=contrast.name,
        unit=spec.primary.text + contrast.per,
        claimed=contrast.claimed,
        judged=contrast.judged,
        counts=_counts(one, spec),
        value=decision.value,
        low=decision.low,
        high=decision.high,
        p=decision.p,
        p_adjusted=p_adjusted,
        decided_by=decision.by if decision.p is not None else [],
        tests=list(one.tested.evidence),
        standardised=one.tested.standardised,
        standardised_as="Hedges g" if contrast.shape == "difference" else "Kendall tau",
        power=power,
        sensitivity=sensitivity,
        adjusted=adjusted,
        verdict=verdict,
        why=why,
        reason=None if decision.value is not None else one.reason or "there is nothing to compare",
    )


def _sensitivity(contrast: Contrast, ref: FigureRef, spec: FindingSpec, primary: _Decision, many: int) -> Sensitivity:
    tested = measured(contrast, ref, cluster=spec.cluster)
    decision = _decide(_Heard(contrast=contrast, tested=tested, reason=None), spec, many)
    turn = None if primary.value is None else turn_of(primary.value, decision.value, decision.low, decision.high)
    return Sensitivity(
        figure=ref.text,
        value=decision.value,
        low=decision.low,
        high=decision.high,
        p=decision.p,
        turn=turn,
        n_models=len(tested.members),
        reason=None if decision.value is not None else contrast.reason or tested.evidence[0].reason,
    )


def _adjusted(contrast: Contrast, spec: FindingSpec, primary: _Decision) -> Adjusted:
    evidence, held, n_models = adjust(contrast, spec.primary, spec.covariates, cluster=spec.cluster)
    turn = None if primary.value is None else turn_of(primary.value, evidence.value, evidence.low, evidence.high)
    return Adjusted(
        covariates=held,
        value=evidence.value,
        low=evidence.low,
        high=evidence.high,
        p=evidence.p,
        turn=turn,
        n_models=n_models,
        reason=evidence.reason,
    )


def _power(one: _Heard, spec: FindingSpec, many: int) -> Power:
    """What a t-test of as many models, at the spread seen, would find at the level of Holm's first step."""
    tests = [test for name in ("t", "clustered") if (test := one.test(name)) is not None and test.se is not None]
    n_models = len(one.tested.members)
    if not tests or one.test("t") not in tests:
        reason = one.reason or next((t.reason for t in one.tested.evidence if t.test == "t"), None) or "no spread"
        return Power(
            detectable=None, reason=reason, sentence=f"What {n_models} models can show is not known: {reason}."
        )
    level = spec.alpha / many
    least = max(detectable(test.se, test.df, level) for test in tests if test.se is not None and test.df is not None)
    enough = "enough" if least <= spec.smallest_effect else "not enough"
    return Power(
        detectable=least,
        reason=None,
        sentence=(
            f"With {n_models} models of this spread, an effect of {least:.3g} would be found with 80 % power at level "
            f"{level:.2g}; the smallest that matters is {spec.smallest_effect:g}: {enough} models."
        ),
    )


def _counts(one: _Heard, spec: FindingSpec) -> dict[str, int]:
    members = one.tested.members
    counts = {"models": len(members)}
    if one.contrast.shape == "difference":
        sides = zip(one.contrast.sides, (1.0, 0.0), strict=True)
        counts |= {side: sum(member.x == x for member in members) for side, x in sides}
    counts["strata"] = len({member.stratum for member in members})
    if spec.cluster is not None:
        counts["clusters"] = len({member.unit.text(spec.cluster) for member in members})
    return counts


def _finding(
    case: Case, roll: Roll, comparisons: list[Comparison], compared: set[str], many: int, command: str
) -> Finding:
    spec = case.spec
    judged = [comparison for comparison in comparisons if comparison.judged]
    named = [f"{one.name}: {one.why}" if len(judged) > 1 else one.why for one in judged]
    verdict, why = together([one.verdict for one in judged], named)
    if roll.hindrances:
        verdict, why = "undecided", "; ".join(roll.hindrances)
    lonely = {"left_out": "no other model to compare it with"}
    models = [
        model if model.left_out is not None or model.label in compared else model.model_copy(update=lonely)
        for model in roll.models
    ]
    return Finding(
        study=case.study,
        title=case.title,
        question=spec.question,
        claim=spec.claim,
        spec=spec.model_dump(mode="json"),
        workload=roll.judged.workload,
        on=roll.judged.on,
        readout=roll.judged.readout,
        figure=spec.primary.text,
        models=models,
        comparisons=comparisons,
        n_models=sum(model.left_out is None for model in models),
        n_together=many,
        smallest_effect=spec.smallest_effect,
        alpha=spec.alpha,
        verdict=verdict,
        why=why,
        expected=spec.expected if isinstance(spec, ControlSpec) else None,
        cautions=roll.cautions,
        command=command,
        exitbench=__version__,
    )
