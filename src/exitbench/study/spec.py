"""The spec of a study: which models are measured on what and how; strict, so that a slip of the pen is an error.

A spec says what to measure and never where results go, and it is read without any model or workload: names are looked
up when the cells are planned. Paths in it are relative to its own file.

Between two runs in one folder a spec may grow: more models, workloads or readouts. Words (title, labels, tags, facts)
may change, since they decide no number, but for those that a finding names (`preflight`). All else stays, the finding
above all, which is fixed before there are results.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import pydantic
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from exitbench.config import TUNED, Mode, TraceOptions
from exitbench.errors import ExitbenchError, StudyError
from exitbench.models.shape import ModelKind
from exitbench.plain import is_control
from exitbench.policies import POLICIES, Schedule
from exitbench.sizes import parse_size
from exitbench.study.finding_spec import FindingSpec, hint, parse_finding
from exitbench.study.plain_yaml import read_plain_yaml

__all__ = [
    "Facts",
    "Measure",
    "ModelEntry",
    "Needs",
    "PolicyEntry",
    "Settings",
    "Stage",
    "StudySpec",
    "WorkloadEntry",
    "parse_spec",
    "read_spec",
    "why_another_study",
]

Measure = Literal["score", "representation", "untrained"]
Stage = Literal["base", "instruct", "reasoning"]
MANY = 1_000_000
"""More of anything that is counted is a slip of the pen."""


def _error(text: str) -> PydanticCustomError:
    return PydanticCustomError("spec", "{text}", {"text": text})


def _text(value: str) -> str:
    if not value.strip() or any(map(is_control, value)):
        raise _error(f"{value[:80]!r} is empty or holds control characters; give plain text on one line")
    return value


def _one_of(noun: str, known: Iterable[str]) -> BeforeValidator:
    def check(value: Any) -> Any:
        if isinstance(value, str) and value not in known:
            raise _error(f"unknown {noun} {value!r}; {hint(value, sorted(known))}")
        return value

    return BeforeValidator(check)


def _pattern(pattern: str, expected: str) -> AfterValidator:
    matches = pydantic.TypeAdapter(Annotated[str, Field(pattern=pattern)])

    def check(value: str) -> str:
        try:
            return matches.validate_python(value)
        except pydantic.ValidationError as error:
            raise _error(f"{value[:80]!r} cannot be used as a name here; expected {expected}") from error

    return AfterValidator(check)


def _number_as_text(value: Any) -> Any:
    """A seed or a year among the tags, which YAML reads as a number."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _readout(value: str) -> str:
    if value != "logit" and not (value.startswith(TUNED) and value != TUNED):
        near = hint(value, ["logit"]) if not value.startswith(TUNED) else "give the file"
        raise _error(f"readout is {value!r}, expected 'logit' or '{TUNED}FILE' with a tuned lens; {near}")
    return value


def _memory(value: str) -> str:
    if (parse_size(value) or 0) < 2**20:
        raise _error(f"memory is {value!r}, expected at least 1MiB, for example 512MiB or 2GiB")
    return value


def _probes(value: str) -> str:
    try:
        return Schedule.parse(value).text
    except ExitbenchError as error:
        raise _error(str(error)) from error


def _finding(value: Any) -> FindingSpec | None:
    try:
        return None if value is None else parse_finding(value)
    except ExitbenchError as error:
        raise _error(str(error).removeprefix("finding: ")) from error


Text = Annotated[str, Field(max_length=1000), AfterValidator(_text)]
Count = Annotated[int, Field(ge=1, le=MANY)]
Label = Annotated[
    str, _pattern(r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$", "letters, digits and . _ + -, a letter or digit first")
]
Name = Annotated[str, _pattern(r"^[a-z0-9][a-z0-9-]{0,59}$", "small letters, digits and -, such as 'kinds-2'")]
Readout = Annotated[Text, AfterValidator(_readout)]
Probes = Annotated[Text, AfterValidator(_probes)]
TagValue = Annotated[Text, BeforeValidator(_number_as_text)]


class _Section(BaseModel):
    """A mapping of the spec; a lone word stands for its first key, where it has one."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=(), allow_inf_nan=False)

    noun: ClassVar[str]
    lone: ClassVar[str | None] = None

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if isinstance(data, str) and cls.lone:
            return {cls.lone: data}
        if not isinstance(data, Mapping):
            word = f"a word or a mapping with the key {cls.lone!r}" if cls.lone else "a mapping of keys to values"
            raise _error(f"{cls.noun} is {_kind_of(data)}, expected {word}")
        for key in data:
            if key not in cls.model_fields:
                raise _error(f"unknown key {str(key)[:80]!r} in {cls.noun}; {hint(str(key), cls.model_fields)}")
        return data


def _kind_of(data: Any) -> str:
    return "empty" if data is None else "a list" if isinstance(data, list) else f"{data!r}"[:80]


class Settings(_Section):
    """How models are loaded and traced; what is left out is as in a single trace, on the CPU."""

    noun = "settings"

    on: Mode | None = None
    limit: Count | None = None
    document_tokens: Annotated[int, Field(ge=2, le=MANY)] = TraceOptions.document_tokens
    max_new_tokens: Count = TraceOptions.max_new_tokens
    chat_template: bool = TraceOptions.chat_template
    memory: Annotated[str, AfterValidator(_memory)] = TraceOptions.memory
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: Text = "cpu"
    attention: Text | None = None
    trust_remote_code: bool = False

    @property
    def loading(self) -> dict[str, Any]:
        """Options of `load`."""
        return {name: getattr(self, name) for name in ("dtype", "device", "attention", "trust_remote_code")}


class WorkloadEntry(_Section):
    """A workload, with settings of its own."""

    noun = "workload"
    lone = "workload"

    workload: Text
    on: Mode | None = None
    limit: Count | None = None
    document_tokens: Annotated[int, Field(ge=2, le=MANY)] | None = None
    max_new_tokens: Count | None = None
    chat_template: bool | None = None


class PolicyEntry(_Section):
    """An exit policy by name or file, at the probe depths of a replay unless others are given."""

    noun = "policy"
    lone = "policy"

    policy: Text
    probes: Annotated[tuple[Probes, ...], BeforeValidator(lambda v: (v,) if isinstance(v, str) else v)] = Field(
        default=(), strict=False
    )

    @model_validator(mode="after")
    def _is_known(self) -> "PolicyEntry":
        if not self.policy.endswith(".json") and self.policy not in POLICIES:
            raise _error(f"unknown policy {self.policy!r}; {hint(self.policy, POLICIES)}")
        return self


class Facts(_Section):
    """What the spec knows better of a model than the table of facts, or the loaded weights, do."""

    noun = "facts"

    family: Text | None = None
    generation: Text | None = None
    release_month: Annotated[str, _pattern(r"^\d{4}-(0[1-9]|1[0-2])$", "YYYY-MM")] | None = None
    kind: ModelKind | None = None
    stage: Stage | None = None
    total_params_b: Annotated[float, Field(gt=0)] | None = None
    active_params_b: Annotated[float, Field(gt=0)] | None = None
    num_blocks: Count | None = None
    hidden_size: Count | None = None
    vocab_size: Annotated[int, Field(ge=1, le=1000 * MANY)] | None = None
    tied_head: bool | None = None
    step: Annotated[int, Field(ge=0)] | None = None
    tokens_seen: Annotated[int, Field(ge=0)] | None = None


class Needs(_Section):
    """What a model's cells need of a node of a cluster; decides no number."""

    noun = "needs"

    cpus: Annotated[float, Field(gt=0)] | None = None
    gpus: Annotated[float, Field(ge=0)] | None = None
    memory: Annotated[str, AfterValidator(_memory)] | None = None
    """Main memory."""


class ModelEntry(_Section):
    """A model, or the checkpoints of one."""

    noun = "model"
    lone = "model"

    model: Text | None = None
    revision: Text | None = None
    """Of a hub model."""
    checkpoints: Text | None = None
    """In place of `model`: a hub repository, or a folder of folders."""
    revisions: Literal["log", "all", "last"] | Annotated[tuple[Text, ...], Field(strict=False, min_length=1)] = "all"
    """Which of the checkpoints."""
    count: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Of those that "log" chooses."""
    pattern: Text | None = None
    """Of the names of checkpoints, where nothing known describes them."""
    tokens_per_step: Annotated[int, Field(ge=1)] | None = None
    label: Label | None = None
    tags: dict[Label, TagValue] = {}
    facts: Facts = Facts()
    needs: Needs = Needs()

    @model_validator(mode="after")
    def _one_kind(self) -> "ModelEntry":
        if (self.model is None) == (self.checkpoints is None):
            raise _error("a model entry has one of the keys 'model' and 'checkpoints'; give one of the two")
        odd = {"model": ("revisions", "count", "pattern", "tokens_per_step"), "checkpoints": ("revision",)}
        kind = "model" if self.checkpoints is None else "checkpoints"
        for name in odd[kind]:
            if name in self.model_fields_set:
                raise _error(f"the key {name!r} does not go with {kind!r}; leave it out")
        return self

    @property
    def measured(self) -> str:
        """Which weights are meant, as text for people."""
        revisions = self.revision if self.checkpoints is None else self.revisions
        shown = [self.model or self.checkpoints, revisions, self.count]
        return " ".join(str(part) for part in shown if part is not None)


class StudySpec(_Section):
    """A study as its file says it."""

    noun = "study"

    name: Name
    title: Text | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    settings: Settings = Settings()
    needs: Needs = Needs()
    """Of every model that does not say otherwise."""
    measure: Annotated[tuple[Annotated[Measure, _one_of("measure", get_args(Measure))], ...], Field(strict=False)] = (
        "score",
    )
    workloads: Annotated[tuple[WorkloadEntry, ...], Field(strict=False, min_length=1)]
    readouts: Annotated[tuple[Readout, ...], Field(strict=False, min_length=1)] = ("logit",)
    policies: Annotated[tuple[PolicyEntry, ...], Field(strict=False)] = ()
    models: Annotated[tuple[ModelEntry, ...], Field(strict=False, min_length=1)]
    keep_traces: bool = False
    finding: Annotated[FindingSpec | None, PlainValidator(_finding)] = None

    @model_validator(mode="after")
    def _measures_something(self) -> "StudySpec":
        if not self.measure and not self.policies:
            raise _error("neither 'measure' nor 'policies' names anything, so nothing would be measured; name one")
        return self


def parse_spec(data: Any, where: str) -> StudySpec:
    """Check a spec.

    Args:
        data: plain values, as YAML has them.
        where: what messages begin with: the name of the file.

    Raises:
        StudyError: the first thing that is wrong with it.
    """
    try:
        return StudySpec.model_validate(data)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        scalar = first["type"] != "spec" and isinstance(first["input"], str | int | float | None)
        got = f", got {first['input']!r:.80}" if scalar else ""
        said = " ".join(first["msg"].split())
        raise StudyError(f"{where}: {f'{place}: ' if place else ''}{said}{got}") from error


def read_spec(path: Path) -> StudySpec:
    """Read the YAML file of a spec.

    Raises:
        StudyError: see `read_plain_yaml` and `parse_spec`.
    """
    return parse_spec(read_plain_yaml(path), str(path))


def why_another_study(there: StudySpec, now: StudySpec) -> str:
    """What sets the study of a folder apart from this one; nothing where this one only grew."""
    deciding = [name for name in Settings.model_fields if name != "memory"]
    if found := (
        _differing(there, now, ("name", "seed", "measure", "policies"))
        or _differing(there.settings, now.settings, deciding, "settings.")
    ):
        return found
    if found := _other_finding(there.finding, now.finding):
        return f"{found}, and a finding is fixed before there are results"
    for name, known in (
        ("workloads", [_short(entry) for entry in now.workloads]),
        ("readouts", [_short(readout) for readout in now.readouts]),
        ("models", [entry.measured for entry in now.models]),
    ):
        for entry in getattr(there, name):
            shown = entry.measured if isinstance(entry, ModelEntry) else _short(entry)
            if shown not in known:
                return f"{name} has {shown} there and not now"
    return ""


def _differing(there: BaseModel, now: BaseModel, names: Iterable[str], where: str = "") -> str:
    """The first of some fields that is not the same."""
    for name in names:
        if (old := getattr(there, name)) != (new := getattr(now, name)):
            return f"{where}{name} is {_short(old)} there and {_short(new)} now"
    return ""


def _other_finding(there: FindingSpec | None, now: FindingSpec | None) -> str:
    """What a finding has otherwise than before, by its keys."""
    if there is None or now is None:
        return "" if there is now else f"finding is {'added' if there is None else 'taken out'} now"
    names = ["question"] if there.question != now.question else type(now).model_fields
    return _differing(there, now, names, "finding.")


def _short(value: Any) -> str:
    """A value as text for people, and to compare by."""
    if isinstance(value, BaseModel):
        return ", ".join(f"{name}: {part}" for name, part in value.model_dump(exclude_unset=True).items())
    if isinstance(value, tuple):
        return f"[{'; '.join(map(_short, value))}]"
    return str(value)
