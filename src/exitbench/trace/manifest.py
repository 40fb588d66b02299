"""What a trace says of itself: the identity of a measurement and the circumstances it was made in.

Two traces may be merged or compared row by row only where `Manifest.identity()` is equal. Everything that can change a
recorded number belongs to the identity; the command line, the time, the machine and what is known of the model from
elsewhere do not.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from exitbench.models.catalogue import ModelFacts
from exitbench.models.shape import COMPLETION_FIELDS, ModelShape

__all__ = ["SCHEMA_VERSION", "Manifest", "ModelIdentity", "Order", "Settings", "WorkloadIdentity"]

SCHEMA_VERSION = 3

Order = Literal["workload", "looks"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ModelIdentity(_Frozen):
    """Which weights were traced."""

    source: str
    """What the user asked for: a short name, hub id, or the name of a folder or file."""
    name: str
    model_type: str
    """transformers' model type, e.g. "llama"."""
    revision: str | None
    weights_sha256: str
    config_sha256: str | None
    """Of configs, tokeniser, chat templates and code beside the weights; None for GGUF, which holds all of it."""
    quantisation: str | None
    licence: str | None


class WorkloadIdentity(_Frozen):
    """Which prompts or texts were used."""

    name: str
    version: str
    sha256: str
    num_samples: int
    categories: dict[str, int]


class Settings(_Frozen):
    """What was recorded, and how."""

    recorded: Literal["signals", "decisions"]
    """All signals at every depth, or only the final token and its decision depth (traced with --fast)."""
    also: tuple[str, ...] = ()
    """Optional signals recorded beside the others, sorted."""
    on: Literal["answers", "text"]
    readout: str
    """"logit", or "tuned:" and the beginning of a sha256 over the numbers of a lens."""
    dtype: str
    output_dtype: str
    """dtype of the model's own logits; logits at every depth are rounded to it before comparing."""
    attention: str
    """Attention implementation, e.g. "sdpa"."""
    device: str
    """Type of the device that computes; where the weights wait meanwhile changes no number."""
    chat_template: bool
    """Whether prompts went through the model's chat template."""
    max_new_tokens: int | None
    document_tokens: int | None
    """Length of the documents a text is cut into; None on answers."""
    generation_batch: int | None
    limit: int | None
    seed: int
    order: Order = "workload"
    """"looks": drawn with the seed, so that any beginning is a sample of the whole; see `trace.precision`."""


class Manifest(_Frozen):
    """The `manifest.json` of a trace folder."""

    schema_version: int = SCHEMA_VERSION
    model: ModelIdentity
    shape: ModelShape
    workload: WorkloadIdentity
    settings: Settings
    facts: ModelFacts = ModelFacts()
    """What was known of the model when it was traced; nothing in traces older than this field."""
    libraries: dict[str, str]
    """Versions that can change a number: torch, transformers, exitbench."""
    environment: dict[str, Any]
    command: str
    created: str
    """ISO 8601, UTC."""

    def identity(self) -> dict[str, Any]:
        """Everything that decides the recorded numbers, as plain JSON values.

        What a skipped block or a readout would cost is counted on the same weights and decides none of them; traces
        older than those counts stay what they were.
        """
        return self.model_dump(
            mode="json",
            exclude={
                **dict.fromkeys(("facts", "environment", "command", "created"), True),
                "shape": {"blocks": {"__all__": set(COMPLETION_FIELDS)}, "head_weight_bytes": True},
            },
        )
