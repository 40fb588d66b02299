"""What a finding claims and how it is judged, as the `finding` section of a study says before there are results.

Four questions and controls. Generations and size ask for a trend of a figure over the models; kinds, stages and
controls for differences of groups of models, stages within pairs. Everything that could be chosen to please is a field
here, and an unknown one is refused: what was fixed beforehand is what was judged.

A factor is named as a column of the rows (`kind`, `active_params_b`), as a tag (`tags.seed`), or, among covariates, as
a figure (`bits_per_character`), taken from the same workload as the primary figure.

Non-goals: judging (`findings`), and the rest of a study's specification.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, get_args

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, model_validator

from exitbench.errors import ExitbenchError, first_problem

__all__ = [
    "CATALOGUE",
    "FACTORS",
    "TAG",
    "ControlSpec",
    "FigureRef",
    "FindingSpec",
    "GenerationsSpec",
    "GroupSpec",
    "KindsSpec",
    "Requirement",
    "SizeSpec",
    "StagesSpec",
    "TrendSpec",
    "Within",
    "hint",
    "is_factor",
    "parse_finding",
]

TAG = "tags."
"""Before the name of a tag."""
CATALOGUE = "catalogue"
"""As `pair`: a model belongs to the one that the catalogue names as its base."""
FACTORS = (
    *("family", "generation", "release_month", "kind", "stage", "total_params_b", "active_params_b"),
    *("num_blocks", "hidden_size", "vocab_size", "tied_head", "step", "tokens_seen"),
)
"""Columns of a row that say something of the model."""


def hint(name: str, known: Iterable[str], before: str = "") -> str:
    """The nearest known name, or all of them, after words."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"expected {before}{', '.join(names)}"


def is_factor(name: str) -> bool:
    """Whether a name is that of a column or a tag, as a figure's is not."""
    return name in FACTORS or (name.startswith(TAG) and name != TAG)


def _known_factor(name: str) -> str:
    if is_factor(name):
        return name
    raise ValueError(f"{name!r} is no factor; {hint(name, FACTORS, f'{TAG}NAME or one of ')}")


def _figure(given: Any) -> Any:
    return {"figure": given} if isinstance(given, str) else given


def _within(given: Any) -> Any:
    return {"factor": given} if isinstance(given, str) else given


Factor = Annotated[str, pydantic.AfterValidator(_known_factor)]
_Text = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class FigureRef(_Strict):
    """A figure of the rows; what is left open holds for every one there is."""

    figure: _Text
    variant: str | None = None
    target: str | None = None
    at: float | None = None

    @property
    def text(self) -> str:
        """E.g. "eas logit_cosine at 0.5"."""
        parts = [self.figure, self.variant, self.target, None if self.at is None else f"at {self.at:g}"]
        return " ".join(part for part in parts if part)


class Within(_Strict):
    """Models are compared only with those alike in this."""

    factor: Factor
    edges: Annotated[tuple[float, ...], Field(strict=False)] = ()
    """Ascending; of bands from one up to the next, for a factor that is a number. Equal values otherwise."""

    @model_validator(mode="after")
    def _ascending(self) -> "Within":
        if list(self.edges) != sorted(set(self.edges)):
            raise ValueError(f"edges must ascend, got {list(self.edges)}")
        return self


class Requirement(_Strict):
    """What a model must reach to be judged at all; one that does not leaves the finding undecided."""

    factor: Factor
    at_least: float
    otherwise: _Text
    """Why a model that falls short is left out, e.g. "not trained: no better than a unigram model"."""


NamedFigure = Annotated[FigureRef, BeforeValidator(_figure)]


class _Common(_Strict):
    claim: _Text
    primary: NamedFigure = FigureRef(figure="ees")
    """Judged on this figure. Higher must mean more potential, here and in `sensitivity`."""
    workload: str | None = None
    """Judged on this workload; may be left out where the study has one."""
    on: Literal["answers", "text"] | None = None
    readout: str | None = None
    sensitivity: Annotated[tuple[NamedFigure, ...], Field(strict=False)] = ()
    """Figures under which the same comparison must not turn round; each variant and place of each."""
    turns: Literal["sign", "interval"] = "sign"
    """What counts as turning round: another sign, or an interval that lies wholly on the other side of 0."""
    within: Annotated[Within | None, BeforeValidator(_within)] = None
    covariates: Annotated[tuple[_Text, ...], Field(strict=False)] = ()
    """Held fixed in a regression that is shown beside the test."""
    require: Annotated[tuple[Requirement, ...], Field(strict=False)] = ()
    smallest_effect: float = Field(gt=0)
    """That would matter: a difference in the figure's unit; of a trend, per year or per factor of ten in size."""
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    cluster: Factor | None = "family"
    """Models alike in this are not independent of one another; null where each was trained on its own, as seeds are."""

    @property
    def numbers(self) -> tuple[str, ...]:
        """Factors that must be numbers of a model."""
        bands = (self.within.factor,) if self.within is not None and self.within.edges else ()
        return (*bands, *(needed.factor for needed in self.require), *filter(is_factor, self.covariates))

    @property
    def alike(self) -> tuple[str, ...]:
        """Columns and tags in which models are alike that are compared with one another."""
        return () if self.within is None else (self.within.factor,)

    @property
    def factors(self) -> tuple[str, ...]:
        """Columns and tags that decide, beside figures, what comes of it."""
        cluster = () if self.cluster is None else (self.cluster,)
        return tuple(dict.fromkeys((*self.alike, *cluster, *self.numbers)))


class TrendSpec(_Common):
    """A figure against a number that each model has."""

    factor: Factor
    trend: Literal["falls", "rises"]
    """As claimed."""

    @property
    def numbers(self) -> tuple[str, ...]:
        """Factors that must be numbers of a model."""
        return (self.factor, *super().numbers)


class GenerationsSpec(TrendSpec):
    """Gains over generations of models."""

    question: Literal["generations"]
    factor: Factor = "release_month"
    """In years where it is the month; otherwise a number, and the slope is per unit of it."""
    trend: Literal["falls", "rises"] = "falls"


class SizeSpec(TrendSpec):
    """Gains over size, in factors of ten."""

    question: Literal["size"]
    factor: Factor = "total_params_b"
    trend: Literal["falls", "rises"] = "rises"
    threshold: float = Field(default=20.0, gt=0)
    """In units of the factor; models above are also compared with those up to it."""
    judged_by: Literal["slope", "threshold", "both"] = "slope"
    """The other one is shown, and not judged."""


class GroupSpec(_Common):
    """One group of models against each of some others."""

    factor: Factor
    reference: _Text
    against: Annotated[tuple[_Text, ...], Field(strict=False, min_length=1)]
    """All of the claim: it is supported only if it is against each of these."""
    reference_is: Literal["higher", "lower"] = "higher"
    """As claimed."""
    pair: Factor | Literal["catalogue"] | None = None
    """Models alike in this are compared with one another; "catalogue" pairs a model with its base."""

    @model_validator(mode="after")
    def _distinct(self) -> "GroupSpec":
        if len({self.reference, *self.against}) != 1 + len(self.against):
            raise ValueError(f"reference and against must differ, got {self.reference} and {', '.join(self.against)}")
        if self.pair is not None and self.within is not None:
            raise ValueError("pair and within exclude one another; a pair is alike in what it is paired by")
        return self

    @property
    def alike(self) -> tuple[str, ...]:
        """Columns and tags in which models are alike that are compared with one another."""
        pair = () if self.pair in (None, CATALOGUE) else (self.pair,)
        return (*pair, *super().alike)

    @property
    def factors(self) -> tuple[str, ...]:
        """Columns and tags that decide, beside figures, what comes of it."""
        return tuple(dict.fromkeys((self.factor, *super().factors)))


class KindsSpec(GroupSpec):
    """Kinds of models, at like active size where `within` says so."""

    question: Literal["kinds"]
    factor: Factor = "kind"
    reference: _Text = "dense"
    against: Annotated[tuple[_Text, ...], Field(strict=False, min_length=1)] = ("moe", "ssm")


class StagesSpec(GroupSpec):
    """Base models against what was made of them."""

    question: Literal["stages"]
    factor: Factor = "stage"
    reference: _Text = "base"
    against: Annotated[tuple[_Text, ...], Field(strict=False, min_length=1)] = ("instruct",)
    pair: Factor | Literal["catalogue"] | None = f"{TAG}pair"


class ControlSpec(GroupSpec):
    """Groups whose difference is known beforehand: it must be found, or must not be."""

    question: Literal["control"]
    expected: Literal["supported", "not supported"]
    """The verdict that shows that the instrument works."""


FindingSpec = Annotated[
    GenerationsSpec | KindsSpec | SizeSpec | StagesSpec | ControlSpec, Field(discriminator="question")
]
"""What the section `finding` of a study may be."""
_ADAPTER: TypeAdapter[FindingSpec] = TypeAdapter(FindingSpec)
_SPECS: dict[str, type[_Common]] = {
    get_args(spec.model_fields["question"].annotation)[0]: spec for spec in get_args(get_args(FindingSpec)[0])
}


def parse_finding(section: Any) -> FindingSpec:
    """Read the section `finding` of a study.

    Args:
        section: as parsed from YAML or JSON.

    Raises:
        ExitbenchError: not such a section; names the field, and for an unknown one the nearest that exists.
    """
    question = section.get("question") if isinstance(section, Mapping) else section
    spec = _SPECS.get(str(question))
    if spec is None or not isinstance(section, Mapping):
        raise ExitbenchError(f"finding: question is {question!r}, expected one of {', '.join(_SPECS)}")
    known = spec.model_fields
    for name in section:
        if name not in known:
            raise ExitbenchError(f"finding: unknown key {name!r}; {hint(str(name), known)}")
    try:
        return _ADAPTER.validate_python(dict(section))
    except pydantic.ValidationError as error:
        raise ExitbenchError(f"finding: {first_problem(error, 'finding')}") from error
