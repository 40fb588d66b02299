"""What a folder of decoded answers shows: time, blocks left out, answers changed.

Times are taken a batch at a time, so batches are what is resampled for them; everything else is resampled by prompt.
All ratios are of sums: seconds over tokens, never means of batches' own ratios.

Shapes: P prompts (all turns of a sample together), K batches, N tokens.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from exitbench.decode.quality import changes
from exitbench.decode.record import Batch, Manifest, Settings, Turn
from exitbench.decode.store import read_batches, read_manifest
from exitbench.decode.tasks import TaskFigures, task_figures
from exitbench.errors import DecodeError
from exitbench.stats.bootstrap import Bootstrap, Estimate, Floats, draw_weights, ratio, strata
from exitbench.stats.figure import Figure
from exitbench.stats.reasoned import Reasoned, with_reasons
from exitbench.trace.manifest import ModelIdentity, WorkloadIdentity

__all__ = ["Decoding", "Failure", "summarise"]

DRAWS = 2000
_NO_LATER = "no answer has a second token, and the first comes with its prompt"
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
    n_batches: int
    """What is resampled for times."""
    time_ratio: Figure | None
    """Seconds a new token with early exit, over those without; prompts not counted. Above 1: early exit is slower."""
    full_ms_per_token: Figure | None
    exit_ms_per_token: Figure | None
    gross_savings: Figure | None
    """Share of the blocks' work behind the depths at which tokens left, whether or not it was done later. First tokens
    of answers are not counted, for prompts run through all blocks."""
    identical_tokens: Figure
    """Share of positions with the full model's token; of the longer answer, so that an early end counts."""
    identical_answers: Figure
    """Share of answers that are the full model's, token for token."""
    first_divergence: Figure | None
    """Median position, from 0, at which the others part from it."""
    edit_distance: Figure
    """Levenshtein distance in tokens, over the length of the longer answer."""
    full_perplexity: Figure | None
    """Of the full model's answers under itself, a token."""
    perplexity: Figure | None
    """Of the answers with early exit under the full model, a token."""
    tasks: list[TaskFigures]
    """How good the answers are, where there are references."""
    blocks_run: float
    """Passes of tokens through blocks, prompts included, over those without early exit."""
    accepted: float | None
    """Share of drafts that were kept."""
    tokens_per_round: float | None
    """New tokens for each check of drafts."""

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values, with `<name>_reason` beside every null."""
        return self.model_dump(mode="json")


def summarise(folder: Path, *, run_code: bool = False) -> Decoding:
    """Read a folder of decoded answers.

    Args:
        folder: that they were decoded into.
        run_code: run the answers' Python code where references are tests (see `sandbox` for what that risks).

    Raises:
        DecodeError: it holds none, or a package that a reference needs is missing.
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
        new = sum(len(turn.ids) - 1 for turn in turns if turn.ids)
        outcomes["tokens_per_round"] = new / counts["rounds"] if counts["rounds"] else drafted
    by_prompt = _ByPrompt(turns)
    outcomes |= by_prompt.perplexities() | by_prompt.changes() | _times(batches)
    outcomes["gross_savings"] = by_prompt.savings(manifest).figure() or _NO_LATER
    fields = {
        **{name: getattr(manifest, name) for name in ("model", "workload", "settings", "libraries", "environment")},
        "command": manifest.command,
        "n_tokens": sum(len(turn.ids) for turn in turns),
        "n_prompts": len({turn.sample_id for turn in turns}),
        "failures": [Failure(sample_id=turn.sample_id, failure=turn.failure) for turn in turns if turn.failure],
        "tasks": by_prompt.tasks(run_code=run_code),
        "blocks_run": counts["block_tokens"] / full_counts["block_tokens"],
        "n_batches": len(batches),
    }
    return Decoding.model_validate(fields | with_reasons(outcomes))


def _counts(parts: Sequence[dict[str, int]]) -> dict[str, int]:
    return {name: sum(part[name] for part in parts) for name in parts[0]}


class _ByPrompt:
    """All answers, by prompt."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._turns = turns
        self._category = {turn.sample_id: turn.category for turn in turns}
        self._place = {sample: number for number, sample in enumerate(self._category)}
        self._bootstrap = _bootstrap(list(self._category.values()))

    def savings(self, manifest: Manifest) -> Estimate:
        """Mean of rho over the depths of all tokens."""
        rho = np.asarray(manifest.rho)
        return self._bootstrap.mean(
            self._sums([float(rho[list(turn.depths[1:])].sum()) for turn in self._turns]),
            self._sums([len(turn.depths[1:]) for turn in self._turns]),
        )

    def changes(self) -> dict[str, Figure | str | None]:
        """How far the answers are from the full model's."""
        answers = [(self._place[turn.sample_id], turn.full_ids, turn.ids) for turn in self._turns]
        return changes(answers, self._bootstrap, len(self._place))

    def tasks(self, *, run_code: bool) -> list[TaskFigures]:
        """How good the answers of both are."""
        return task_figures(self._turns, self._place, self._bootstrap, run_code=run_code)

    def perplexities(self) -> dict[str, Figure | str | None]:
        """Of the answers of both, under the full model."""
        found: dict[str, Figure | str | None] = {}
        for name, nats, ids in (
            ("full_perplexity", [turn.full_nll for turn in self._turns], [turn.full_ids for turn in self._turns]),
            ("perplexity", [turn.nll for turn in self._turns], [turn.ids for turn in self._turns]),
        ):
            missing = sum(value is None for value, answer in zip(nats, ids, strict=True) if answer)
            if missing or not any(ids):
                found[name] = (
                    f"{missing} answers have no finite log-probability" if missing else "no answer has a token"
                )
            else:
                known = [value or 0.0 for value in nats]
                mean = self._bootstrap.mean(self._sums(known), self._sums([len(answer) for answer in ids]))
                found[name] = mean.map(np.exp).figure()
        return found

    def _sums(self, values: Sequence[float | None]) -> Floats:
        totals = np.zeros(len(self._place))
        for turn, value in zip(self._turns, values, strict=True):
            assert value is not None
            totals[self._place[turn.sample_id]] += value
        return totals


def _times(batches: Sequence[Batch]) -> dict[str, Figure | str]:
    """Seconds a token, by batch; the counts are of prompts."""
    full_s = np.array([batch.full.decode_s for batch in batches])
    exit_s = np.array([batch.exit.decode_s for batch in batches])
    # The first token of an answer comes with its prompt.
    full_tokens = np.array([sum(max(len(turn.full_ids) - 1, 0) for turn in batch.turns) for batch in batches], float)
    exit_tokens = np.array([sum(max(len(turn.ids) - 1, 0) for turn in batch.turns) for batch in batches], float)
    bootstrap = _bootstrap([" ".join(sorted({turn.category for turn in batch.turns})) for batch in batches])
    full = bootstrap.estimate(lambda w: ratio(w @ full_s, w @ full_tokens), full_tokens)
    early = bootstrap.estimate(lambda w: ratio(w @ exit_s, w @ exit_tokens), exit_tokens)
    prompts = len({turn.sample_id for batch in batches for turn in batch.turns})
    figures = {
        "full_ms_per_token": _thousandths(full).figure(),
        "exit_ms_per_token": _thousandths(early).figure(),
        "time_ratio": early.map(ratio, full).figure(),
    }
    return {
        name: figure.model_copy(update={"n_prompts": prompts}) if figure else _NO_LATER
        for name, figure in figures.items()
    }


def _thousandths(seconds: Estimate) -> Estimate:
    return seconds.map(lambda value: value * 1000)


def _bootstrap(categories: Sequence[str]) -> Bootstrap:
    rng = np.random.default_rng(0)
    return Bootstrap(weights=draw_weights(strata(categories), draws=DRAWS, rng=rng))
