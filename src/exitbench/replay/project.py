"""What decoding would take, from what the loop would do (`loop`) and what its parts take: in work, and in time.

Work is counted as in `cost`, but of the passes that really happen: a chunk of waiting tokens as a chunk, rows that move
together as such. Time is the sum of the decoder's own parts, each as long as it was measured to take with so many rows
and tokens (`exitbench.decode.times`).

Non-goals: the time of prompts, overlap of parts.
"""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from exitbench.errors import CostError
from exitbench.models.shape import ModelShape
from exitbench.replay.cost import ProbeCost, Work, block_work, completion_work, probe_work, readout_work
from exitbench.replay.loop import LoopCounts
from exitbench.replay.profiles import TimedPart

__all__ = ["DecoderTimes", "TimedGrid", "loop_work", "project_decode"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TimedGrid(_Frozen):
    """Seconds that a part took with so many rows of so many tokens each."""

    rows: tuple[int, ...] = Field(min_length=1)
    """Rising."""
    parts: tuple[TimedPart, ...]
    """One for each of `rows`, in which "rows" are tokens."""

    def at(self, rows: int, tokens: int) -> float:
        """The median; between two numbers that were measured, on the line between them.

        Raises:
            CostError: more or fewer than were measured.
        """
        return TimedPart(rows=self.rows, **dict.fromkeys(_TIMES, tuple(part.at(tokens) for part in self.parts))).at(
            rows
        )


_TIMES = ("median_s", "q10_s", "q90_s")


class DecoderTimes(_Frozen):
    """Times of the parts of one decoder on one machine; all are exclusive of one another."""

    model: str
    dtype: str
    device: str
    context: int
    """Slots before the tokens, on average."""
    num_rounds: int
    blocks: tuple[TimedGrid, ...]
    """One a block; the first never has more than one token, for nobody waits in front of it."""
    completions: tuple[TimedPart, ...]
    """Of each block but the first, the writing of its state for one token of so many rows."""
    probes: dict[str, TimedPart]
    """By kind: "readout", "hidden" or "static" (see `exitbench.decode.times`)."""
    arguments: TimedGrid
    moves: TimedPart | None
    """A block's state put together for so many rows; None where one row is all."""
    heads: TimedPart
    steps: TimedPart
    """All else between two tokens, by rows."""
    choices: TimedPart
    draft_steps: TimedPart | None
    """All else of a step of one row that is drafted or checked; None where nothing can be rolled back."""
    checks: TimedPart | None
    """Readout of so many tokens of one row."""
    rounds: TimedPart | None
    """All else of a round with so many tokens."""


def project_decode(counts: LoopCounts, times: DecoderTimes, *, probe: str) -> float:
    """Seconds a token.

    Args:
        counts: of the tokens behind the first ones.
        times: of the same model, dtype and machine.
        probe: kind of what is looked at.

    Raises:
        CostError: rows, tokens or probes for which no times were measured, or no tokens.
    """
    if counts.tokens == 0:
        raise CostError("no token is decoded behind the first one of each answer, so there is no time a token")
    return sum(_by_part(counts, times, probe).values()) / counts.tokens


def _by_part(counts: LoopCounts, times: DecoderTimes, probe: str) -> dict[str, float]:
    """Seconds of each part, all together."""
    blocks, completions = times.blocks, times.completions
    spent = {
        "blocks": sum(n * blocks[block].at(rows, tokens) for (block, rows, tokens), n in counts.passes.items()),
        "completions": sum(n * completions[block - 1].at(rows) for (block, rows), n in counts.completions.items()),
        "probes": _sum(counts.probes, times.probes.get(probe), probe),
        "arguments": sum(n * times.arguments.at(rows, tokens) for (rows, tokens), n in counts.argument_passes.items()),
        "moves": _sum(counts.moves, times.moves, "moves"),
        "heads": _sum(counts.heads, times.heads, "heads"),
        "choices": _sum(counts.choices, times.choices, "choices"),
    }
    if not counts.rounds:
        return spent | {"steps": _sum(counts.steps, times.steps, "steps")}
    return spent | {
        "steps": _sum(counts.steps, times.draft_steps, "drafting"),
        "checks": _sum(counts.rounds, times.checks, "checks"),
        "rounds": _sum(counts.rounds, times.rounds, "rounds"),
    }


def _sum(counts: Mapping[int, int], part: TimedPart | None, name: str) -> float:
    if part is None and counts:
        raise CostError(f"no times of {name!r} were measured")
    return 0.0 if part is None else sum(number * part.at(size) for size, number in counts.items())


def loop_work(counts: LoopCounts, shape: ModelShape, *, context: int, probe: ProbeCost) -> tuple[Work, Work]:
    """Work of decoding, and of decoding as many tokens one by one with the full model.

    With one row, "copy", and a readout as probe, the former over the latter is the mean of `cost.exit_costs` over the
    exits.

    Args:
        counts: of the tokens behind the first ones.
        shape: of the model.
        context: slots at the end of each step, on average.
        probe: what is looked at.

    Raises:
        CostError: a count that is missing, and why.
    """
    work = Work()
    for (block, rows, tokens), number in counts.passes.items():
        work += _times(block_work(shape.blocks[block], sequences=rows, tokens=tokens, context=context), number)
    for (block, rows), number in counts.completions.items():
        work += _times(completion_work(shape.blocks[block], sequences=rows, context=context), number)
    for rows, number in counts.heads.items():
        work += _times(readout_work(shape, rows=rows), number)
    for rows, number in counts.rounds.items():
        work += _times(readout_work(shape, rows=rows), number)
    for rows, number in counts.probes.items():
        look = probe_work(shape, probe, rows=rows)
        work += _times(look + readout_work(shape, rows=rows) if probe.doubles_as_output else look, number)
    full = Work()
    for rows, number in counts.choices.items():
        step = readout_work(shape, rows=rows)
        for each in shape.blocks:
            step += block_work(each, sequences=rows, context=context)
        full += _times(step, number)
    return work, full


def _times(work: Work, number: int) -> Work:
    return Work(
        flops=number * work.flops, weight_bytes=number * work.weight_bytes, state_bytes=number * work.state_bytes
    )
