"""The result of a replay: the policies of a comparison on one trace, as one frozen, typed, JSON-able record."""

from typing import Any

import pydantic
from pydantic import BaseModel, ConfigDict

from exitbench.errors import ReportError, first_problem
from exitbench.models.shape import ModelShape
from exitbench.replay.frontier import Frontier
from exitbench.replay.points import OperatingPoint
from exitbench.stats.figure import Figure
from exitbench.stats.reasoned import Reasoned
from exitbench.trace.manifest import ModelIdentity, Settings, WorkloadIdentity

__all__ = ["REPLAY_VERSION", "PolicyFrontier", "Replay"]

REPLAY_VERSION = 1


class PolicyFrontier(BaseModel):
    """The frontier of one policy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str
    probes: str
    frontier: Frontier


class Replay(Reasoned):
    """What exit policies would do on one trace."""

    schema_version: int = REPLAY_VERSION
    model: ModelIdentity
    shape: ModelShape
    workload: WorkloadIdentity
    categories: list[str]
    """Of the workload, those that were replayed."""
    settings: Settings
    libraries: dict[str, str]
    trace_command: str
    command: str
    seed: int
    draws: int
    """Bootstrap resamples behind every interval and every calibration."""
    batch: int
    """Rows decoded together, behind every net column."""
    context: int
    """Positions attended to, behind every net column."""
    profile: str
    """Whose times are projected; "" for none."""
    n_tokens: int
    n_prompts: int
    stable: Figure
    """EES: leaving when the prediction no longer changes."""
    first_match: Figure
    """Leaving at the first depth that agrees."""
    speculation: Figure | None
    """Lossless projection: cost of plain decoding over that of self-speculation, in bytes."""
    speculation_drafts: list[tuple[int, int] | None] | None
    """(depth, length) chosen for each fold; None in it: no draft pays."""
    points: list[OperatingPoint]
    frontiers: list[PolicyFrontier]

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values, with `<name>_reason` beside every null."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, data: Any) -> "Replay":
        """The record written by `to_json`.

        Raises:
            ReportError: another schema version, or no replay.
        """
        if not isinstance(data, dict) or data.get("schema_version") != REPLAY_VERSION:
            raise ReportError(
                f"expected a replay of schema version {REPLAY_VERSION}; run 'exitbench replay' on its trace again"
            )
        try:
            return cls.model_validate(data)
        except pydantic.ValidationError as error:
            problem = first_problem(error, "replay")
            raise ReportError(f"not a replay: {problem}; run 'exitbench replay' on its trace again") from error
