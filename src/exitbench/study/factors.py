"""What rows say of a model beside its figures: its label, tags and facts, none of which decides a number.

Facts are those of the table where it lists the model, else what was counted on its weights; the spec has the last word.
What was observed of a model is kept with the rows of its cells, so that rows can follow a spec whose words change,
without the model.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict

from exitbench.models.catalogue import ModelFacts
from exitbench.study.cells import Cell
from exitbench.study.spec import Facts

__all__ = ["Observed", "words_of"]

_OF_MODEL_FACTS = tuple(name for name in Facts.model_fields if name in ModelFacts.model_fields)


class Observed(BaseModel):
    """What is known of a model without the spec."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    facts: ModelFacts = ModelFacts()
    tied_head: bool | None = None
    commit: str | None = None
    """Of the hub, that a branch or tag stood for."""


def words_of(cell: Cell, study: str, observed: Observed) -> dict[str, Any]:
    """The fields of rows that a spec may change without changing a number."""
    model = cell.model
    known = {name: getattr(observed.facts, name) for name in _OF_MODEL_FACTS}
    known |= {"tied_head": observed.tied_head, "step": model.step, "tokens_seen": model.tokens_seen}
    return (
        known
        | model.entry.facts.model_dump(exclude_unset=True)
        | {
            "study": study,
            "model": model.label,
            "workload": cell.prompts.workload.name,
            "tags": dict(model.tags),
        }
    )
