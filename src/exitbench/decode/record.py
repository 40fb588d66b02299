"""What a folder of decoded answers says of itself, and one batch in it.

A folder holds `decode.json`, the manifest, and `batches.jsonl`, one line a batch, each complete before the next begins.
Everything that can change an answer belongs to the identity; times are the machine's.

Shapes: L blocks.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from exitbench.trace.manifest import ModelIdentity, WorkloadIdentity

__all__ = ["SCHEMA_VERSION", "Batch", "Manifest", "Settings", "Side", "Turn"]

SCHEMA_VERSION = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Settings(_Frozen):
    """What was decoded, and how."""

    policy: dict[str, Any]
    """As a policy file holds it."""
    state: Literal["deferred", "copy", "lossless"]
    rows: Literal["regroup", "lockstep"]
    draft: int | None
    """Most tokens drafted before they are checked; None unless lossless."""
    most_waiting: int | None
    """Most tokens of a row that wait; None unless deferred."""
    batch: int
    """Prompts decoded together."""
    max_new_tokens: int
    readout: str
    dtype: str
    attention: str
    device: str
    chat_template: bool
    limit: int | None


class Manifest(_Frozen):
    """The `decode.json` of a folder."""

    schema_version: int = SCHEMA_VERSION
    model: ModelIdentity
    workload: WorkloadIdentity
    settings: Settings
    rho: tuple[float, ...]
    """(L + 1) share of the blocks' work behind each depth."""
    libraries: dict[str, str]
    environment: dict[str, Any]
    command: str
    created: str
    """ISO 8601, UTC."""

    @property
    def num_blocks(self) -> int:
        """L."""
        return len(self.rho) - 1

    def identity(self) -> dict[str, Any]:
        """Everything that decides the answers, as plain JSON values."""
        return self.model_dump(mode="json", exclude={"environment", "command", "created"})


class Turn(_Frozen):
    """The answers to one prompt, by the full model and with early exit."""

    sample_id: str
    category: str
    turn: int
    """From 0; later ones follow the full model's answers to the earlier ones."""
    reference: str | None
    num_prompt_tokens: int
    full_ids: tuple[int, ...]
    ids: tuple[int, ...]
    depths: tuple[int, ...]
    """Blocks that had run when each token was chosen."""
    full_text: str
    text: str
    full_nll: float | None
    """Minus the log-probability of the full model's answer under itself, in nats, over all its tokens."""
    nll: float | None
    """The same of the answer with early exit, under the full model; None where it is not finite."""
    failure: str | None = None
    """Why an answer ends before its end."""


class Side(_Frozen):
    """What one decoder took for a batch."""

    prefill_s: float
    total_s: float
    counts: dict[str, int]

    @property
    def decode_s(self) -> float:
        """Seconds beside those of the prompts: new tokens from the second on, and setting up."""
        return self.total_s - self.prefill_s


class Batch(_Frozen):
    """Prompts that were decoded together."""

    number: int
    """Of the batch of samples, from 0."""
    turns: tuple[Turn, ...]
    full: Side
    exit: Side
