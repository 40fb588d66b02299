"""What a folder of decoded answers shows: time, blocks left out, answers changed.

Times are taken a batch at a time, so batches are what is resampled for them; everything else is resampled by prompt.
All ratios are of sums: seconds over tokens, never means of batches' own ratios.

Shapes: P prompts (all turns of a sample together), K batches, N tokens.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from exitbench.decode.record import Batch, Manifest, Settings, Turn
from exitbench.decode.store import read_batches, read_manifest
from exitbench.errors import DecodeError
from exitbench.stats.bootstrap import Bootstrap, Estimate, draw_weights, ratio, strata
from exitbench.stats.figure import Figure
from exitbench.stats.reasoned import Reasoned, with_reasons
from exitbench.trace.manifest import ModelIdentity, WorkloadIdentity

__all__ = ["Decoding", "Failure", "summarise"]

DRAWS = 2000
_NO_DRAFTS = "only with the state 'lossless'"


class Failure(BaseModel):
    """An answer that ended before its end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_id: str
    failure: str


class Decoding(Reasoned):
    """Early exit against the same loop without, on one workload."""

    schema_version: int = 1
    model: ModelIdentity
    workload: WorkloadIdentity
    settings: Settings
    libraries: dict[str, str]
    environment: dict[str, Any]
    command: str
    n_tokens: int
    """Decoded with early exit."""
    n_prompts: int
    failures: list[Failure]
    time_ratio: Figure
    """Seconds a new token with early exit, over those without; prompts not counted. Above 1: early exit is slower."""
    full_ms_per_token: Figure
    exit_ms_per_token: Figure
    gross_savings: Figure
    """Share of the blocks' work that lies behind the depths at which tokens left, whether or not it was done later."""
    blocks_run: float
    """Passes of tokens through blocks, prompts included, over those without early exit."""
    accepted: float | None
    """Share of drafts that were kept."""
    tokens_per_round: float | None
    """New tokens for each check of drafts."""

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values, with `<name>_reason` beside every null."""
        return self.model_dump(mode="json")


def summarise(folder: Path) -> Decoding:
    """Read a folder of decoded answers.

    Raises:
        DecodeError: it holds none.
    """
    manifest = read_manifest(folder)
    batches = list(read_batches(folder))
    if not batches:
        raise DecodeError(f"{folder} holds no complete batch yet; run 'exitbench decode' with that --out again")
    turns = [turn for batch in batches for turn in batch.turns]
    counts = _counts([batch.exit.counts for batch in batches])
    full_counts = _counts([batch.full.counts for batch in batches])
    lossless = manifest.settings.state == "lossless"
    outcomes: dict[str, Any] = dict.fromkeys(("accepted", "tokens_per_round"), _NO_DRAFTS)
    if lossless:
        drafted = "nothing was drafted"
        outcomes["accepted"] = counts["accepted"] / counts["drafts"] if counts["drafts"] else drafted
        new = counts["accepted"] + counts["rounds"]
        outcomes["tokens_per_round"] = new / counts["rounds"] if counts["rounds"] else drafted
    fields = {
        **{name: getattr(manifest, name) for name in ("model", "workload", "settings", "libraries", "environment")},
        "command": manifest.command,
        "n_tokens": sum(len(turn.ids) for turn in turns),
        "n_prompts": len({turn.sample_id for turn in turns}),
        "failures": [Failure(sample_id=turn.sample_id, failure=turn.failure) for turn in turns if turn.failure],
        "gross_savings": _savings(manifest, turns).figure(),
        "blocks_run": counts["block_tokens"] / full_counts["block_tokens"],
        **_times(batches),
    }
    return Decoding.model_validate(fields | with_reasons(outcomes))


def _counts(parts: Sequence[dict[str, int]]) -> dict[str, int]:
    return {name: sum(part[name] for part in parts) for name in parts[0]}


def _savings(manifest: Manifest, turns: Sequence[Turn]) -> Estimate:
    """Mean of rho over the depths of all tokens, by prompt."""
    rho = np.asarray(manifest.rho)
    samples = list(dict.fromkeys(turn.sample_id for turn in turns))
    place = {sample: number for number, sample in enumerate(samples)}
    category = {turn.sample_id: turn.category for turn in turns}
    saved, tokens = np.zeros(len(samples)), np.zeros(len(samples))
    for turn in turns:
        saved[place[turn.sample_id]] += rho[list(turn.depths)].sum()
        tokens[place[turn.sample_id]] += len(turn.depths)
    return _bootstrap([category[sample] for sample in samples]).mean(saved, tokens)


def _times(batches: Sequence[Batch]) -> dict[str, Figure | None]:
    """Seconds a token, by batch."""
    full_s = np.array([batch.full.decode_s for batch in batches])
    exit_s = np.array([batch.exit.decode_s for batch in batches])
    # The first token of an answer comes with its prompt.
    full_tokens = np.array([sum(max(len(turn.full_ids) - 1, 0) for turn in batch.turns) for batch in batches], float)
    exit_tokens = np.array([sum(max(len(turn.ids) - 1, 0) for turn in batch.turns) for batch in batches], float)
    bootstrap = _bootstrap([" ".join(sorted({turn.category for turn in batch.turns})) for batch in batches])
    full = bootstrap.estimate(lambda w: ratio(w @ full_s, w @ full_tokens), full_tokens)
    early = bootstrap.estimate(lambda w: ratio(w @ exit_s, w @ exit_tokens), exit_tokens)
    return {
        "full_ms_per_token": _thousandths(full).figure(),
        "exit_ms_per_token": _thousandths(early).figure(),
        "time_ratio": replace(early.map(ratio, full), n_tokens=early.n_tokens).figure(),
    }


def _thousandths(seconds: Estimate) -> Estimate:
    return seconds.map(lambda value: value * 1000)


def _bootstrap(categories: Sequence[str]) -> Bootstrap:
    rng = np.random.default_rng(0)
    return Bootstrap(weights=draw_weights(strata(categories), draws=DRAWS, rng=rng))
