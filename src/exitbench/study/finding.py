"""A finding as one frozen, typed, JSON-able record: what was claimed, what was compared, and what it showed.

The record holds all that a page or a table shows, so that neither computes anything. Missing is None, with a reason.
"""

from typing import Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict

from exitbench.errors import ReportError, first_problem
from exitbench.stats.evidence import Evidence, TestName

__all__ = [
    "FINDING_VERSION",
    "Adjusted",
    "Comparison",
    "Finding",
    "JudgedModel",
    "Power",
    "Sensitivity",
    "Turn",
    "Verdict",
]

FINDING_VERSION = 1
Verdict = Literal["supported", "not supported", "opposite", "undecided"]
Turn = Literal["none", "sign", "interval"]
"""How far an effect lies on the other side than the primary one: not, by its sign, or with its whole interval."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class JudgedModel(_Record):
    """One model as it was judged, or left out."""

    label: str
    revision: str | None
    step: int | None
    place: str | None
    """The group it is in, or its place on the axis of a trend, e.g. "dense", "2024-07"."""
    stratum: str | None
    """What it was compared within: a band, a size, a pair."""
    cluster: str | None
    """Models of one cluster are not independent of one another."""
    value: float | None
    """Of the primary figure."""
    low: float | None
    """Of its interval over prompts."""
    high: float | None
    n_tokens: int | None
    n_prompts: int | None
    facts: dict[str, float | str | bool | None]
    """Size and covariates."""
    left_out: str | None
    """Why it takes no part."""
    falls_short: bool = False
    """Whether it was left out for a requirement that it does not meet, which leaves the finding undecided."""


class _Elsewhere(_Record):
    """A comparison in another way than the one that is judged."""

    value: float | None
    low: float | None
    high: float | None
    p: float | None
    """Not adjusted."""
    turn: Turn | None
    n_models: int
    reason: str | None
    """Why there is no effect."""


class Sensitivity(_Elsewhere):
    """The same comparison under another figure."""

    figure: str


class Adjusted(_Elsewhere):
    """The effect with covariates held fixed, by regression."""

    covariates: list[str]
    """Those that went in; one that is the same for all models does not."""


class Power(_Record):
    """What so few models could have shown."""

    detectable: float | None
    """Effect that a t-test at the level of Holm's first step would find with 80 % power, at the spread observed."""
    reason: str | None
    sentence: str


class Comparison(_Record):
    """One effect of the finding, with every test of it."""

    name: str
    """E.g. "dense - moe", "slope"."""
    unit: str
    """E.g. "ees", "ees per year"."""
    claimed: Literal["positive", "negative"]
    """Sign of the effect if the claim holds."""
    judged: bool
    """Whether the verdict rests on it; if not, it is shown only."""
    counts: dict[str, int]
    """Models by group, pairs, strata, clusters, e.g. {"dense": 3, "moe": 3, "strata": 1}."""
    value: float | None
    low: float | None
    high: float | None
    p: float | None
    """Of the deciding test."""
    p_adjusted: float | None
    """Over all comparisons judged together."""
    decided_by: list[TestName]
    """Tests whose largest p-value counts."""
    tests: list[Evidence]
    standardised: float | None
    standardised_as: Literal["Hedges g", "Kendall tau"]
    power: Power
    sensitivity: list[Sensitivity]
    adjusted: Adjusted | None
    """None if no covariates were named."""
    verdict: Verdict
    why: str
    reason: str | None
    """Why there is no effect."""


class Finding(_Record):
    """One claim, judged."""

    schema_version: int = FINDING_VERSION
    study: str
    title: str
    question: Literal["generations", "kinds", "size", "stages", "control"]
    claim: str
    spec: dict[str, Any]
    """The section as it was fixed beforehand, defaults written out."""
    workload: str | None
    on: str | None
    readout: str | None
    figure: str
    """The primary one."""
    models: list[JudgedModel]
    comparisons: list[Comparison]
    n_models: int
    """That took part."""
    n_together: int
    """Comparisons that were judged together, over which p-values are adjusted."""
    smallest_effect: float
    alpha: float
    verdict: Verdict
    why: str
    """In words, after "VERDICT: "."""
    expected: Literal["supported", "not supported"] | None
    """Of a control."""
    cautions: list[str]
    command: str
    exitbench: str
    """Version."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, data: Any) -> "Finding":
        """Read what `to_json` gave.

        Raises:
            ReportError: something else, or written by a newer exitbench.
        """
        version = data.get("schema_version") if isinstance(data, dict) else None
        if isinstance(version, int) and version > FINDING_VERSION:
            raise ReportError(f"finding of version {version}, this exitbench reads up to {FINDING_VERSION}; upgrade it")
        try:
            return cls.model_validate(data)
        except pydantic.ValidationError as error:
            raise ReportError(f"no finding: {first_problem(error, 'finding')}") from error
