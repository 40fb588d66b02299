"""What is known of published models, and how sure that is.

`catalogue.csv` beside this module holds one model a row. A cell that ends in "?" was never checked, a lone "?" is not
known at all; both survive into the record, so that a study can decide what it believes. `docs/models.md` says what the
columns mean. Records import no torch: results that carry them are read where no model is.

What is not listed has the facts that were counted on its loaded weights; what they do not tell is None, never guessed.

Non-goals: near misses of a name.
"""

import csv
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from exitbench.models.shape import ModelKind, ModelShape

__all__ = ["OUTSIDE", "Catalogue", "ModelFacts", "catalogue", "facts_of", "marked", "parse_row"]

OUTSIDE = "outside:"
"""Stands in the table before the id of a base model that has no row of its own."""
_MARK = "?"
_MAY_BE_EMPTY = frozenset(
    {"base", "twin_group", "checkpoint_repo", "checkpoint_revision", "tokens_per_step", "sources", "note"}
)
"""Columns in which an empty cell says that there is nothing, not that nothing is known."""


class ModelFacts(BaseModel):
    """One model's facts, flat; None is not known. Part of every trace, as circumstances."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hub_id: str | None = None
    """Id on the hub; None for weights from elsewhere. Never dropped as unverified, being the key."""
    origin: Literal["catalogue", "counted"] | None = None
    """Where the facts come from: the table, or the weights of a model it does not list; None if none were recorded."""
    family: str | None = None
    """Name of the line of models, e.g. "Qwen"; transformers' model type where the model is not listed."""
    generation: str | None = None
    """Which release of that line, e.g. "2.5"; a label, not a number: order by `release_month`."""
    release_month: str | None = Field(default=None, pattern=r"^\d{4}-(0[1-9]|1[0-2])$")
    """YYYY-MM."""
    total_params_b: float | None = Field(default=None, gt=0)
    """All parameters, in billions (10**9); nominal where only the id says it."""
    active_params_b: float | None = Field(default=None, gt=0)
    """Parameters a token passes through, embeddings included, in billions."""
    num_blocks: int | None = Field(default=None, ge=1)
    """Depth: blocks, as the model's own config counts them."""
    hidden_size: int | None = Field(default=None, ge=1)
    """Width: components of a hidden state."""
    vocab_size: int | None = Field(default=None, ge=1)
    """Rows of the embedding, padding included."""
    kind: ModelKind | None = None
    """All attention ("dense", or "moe" with experts), all recurrence ("ssm"), or both ("hybrid", experts or not)."""
    stage: Literal["base", "instruct", "reasoning"] | None = None
    """What the last training was for."""
    base: str | None = None
    """Hub id of the model that this one was trained on from."""
    twin_group: str | None = None
    """Shared by models published to be compared: alike in data and size, another architecture or shape."""
    checkpoint_repo: str | None = None
    """Hub id that holds checkpoints of the training."""
    checkpoint_revision: str | None = None
    """Pattern of their revisions there, for `str.format`, e.g. "step{step}"."""
    tokens_per_step: int | None = Field(default=None, ge=1)
    """Tokens that one step of the training saw; None also where the names of revisions tell tokens themselves."""
    sources: str | None = None
    """Where the sizes that are not marked were read."""
    note: str | None = None
    unverified: tuple[str, ...] = ()
    """Names of the fields above whose value was never checked."""

    @model_validator(mode="after")
    def _unverified_have_values(self) -> "ModelFacts":
        empty = [name for name in self.unverified if getattr(self, name, None) is None]
        if empty:
            raise ValueError(f"unverified fields must have a value, these have none: {', '.join(empty)}")
        return self

    def verified_only(self) -> "ModelFacts":
        """Return the same facts with every unverified one unknown, but for the id."""
        doubtful = dict.fromkeys(set(self.unverified) - {"hub_id"})
        kept = tuple(name for name in self.unverified if name == "hub_id")
        return self.model_copy(update=doubtful | {"unverified": kept})


def marked(facts: ModelFacts, name: str) -> str:
    """The field `name` as the table writes it, with its "?"."""
    value = getattr(facts, name)
    if value is None:
        return "" if name in _MAY_BE_EMPTY else _MARK
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text + _MARK if name in facts.unverified else text


def parse_row(row: dict[str, str]) -> ModelFacts:
    """The record of one row of the table."""
    values: dict[str, Any] = {name: cell.removesuffix(_MARK) or None for name, cell in row.items()}
    if values["base"]:
        values["base"] = values["base"].removeprefix(OUTSIDE)
    # A note may end in a question; it is not a fact.
    values["note"] = row["note"] or None
    unverified = tuple(name for name, cell in row.items() if name != "note" and cell.endswith(_MARK) and cell != _MARK)
    return ModelFacts.model_validate(values | {"origin": "catalogue", "unverified": unverified})


class Catalogue:
    """Models by hub id, and the links between them.

    Links hold among the records of this catalogue: in `verified_only()` one survives only if all it rests on was
    checked. Ids are matched whatever their case.
    """

    def __init__(self, records: Iterable[ModelFacts]) -> None:
        self._records: dict[str, ModelFacts] = {}
        for facts in records:
            assert facts.hub_id is not None
            assert facts.hub_id.lower() not in self._records, f"{facts.hub_id} is listed twice"
            self._records[facts.hub_id.lower()] = facts

    def __iter__(self) -> Iterator[ModelFacts]:
        return iter(self._records.values())

    def __len__(self) -> int:
        return len(self._records)

    def find(self, hub_id: str | None) -> ModelFacts | None:
        """The facts of a model; None if it is not listed, or has no id."""
        return self._records.get(hub_id.lower()) if hub_id else None

    def verified_only(self) -> "Catalogue":
        """The same models without any fact or link that was never checked."""
        return Catalogue(facts.verified_only() for facts in self)

    def base_of(self, hub_id: str) -> ModelFacts | None:
        """The model that this one was trained on from; None if there is none, or none that is listed."""
        facts = self.find(hub_id)
        return self.find(facts.base) if facts else None

    def tuned_from(self, hub_id: str) -> tuple[ModelFacts, ...]:
        """The models that were trained on from this one; `stage` tells instruct models from controls."""
        return tuple(f for f in self if f.base is not None and f.base.lower() == hub_id.lower())

    def twins_of(self, hub_id: str) -> tuple[ModelFacts, ...]:
        """The models published to be compared with this one, itself left out."""
        facts = self.find(hub_id)
        if facts is None or facts.twin_group is None:
            return ()
        return tuple(f for f in self if f.twin_group == facts.twin_group and f is not facts)

    def checkpoint_suites(self) -> tuple[ModelFacts, ...]:
        """The models whose training can be followed: repository and pattern of its checkpoints are known."""
        return tuple(f for f in self if f.checkpoint_repo and f.checkpoint_revision)


@cache
def catalogue() -> Catalogue:
    """The table that comes with the package."""
    text = files("exitbench.models").joinpath("catalogue.csv").read_text(encoding="utf-8")
    return Catalogue(parse_row(row) for row in csv.DictReader(text.splitlines()))


def facts_of(hub_id: str | None, model_type: str, shape: ModelShape) -> ModelFacts:
    """The facts of a loaded model: from the table where it is listed, else what was counted on it.

    Args:
        hub_id: id on the hub of the weights, or of those they were made from; None if unknown.
        model_type: transformers' model type.
        shape: sizes counted on the loaded weights.
    """
    listed = catalogue().find(hub_id)
    active = shape.active_parameters
    return listed or ModelFacts(
        hub_id=hub_id,
        origin="counted",
        family=model_type,
        total_params_b=shape.num_parameters / 1e9,
        active_params_b=None if active is None else active / 1e9,
        num_blocks=shape.num_blocks,
        hidden_size=shape.hidden_size,
        vocab_size=shape.vocab_size,
        kind=shape.kind,
    )
