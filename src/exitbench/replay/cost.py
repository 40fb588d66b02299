"""What a decoded token costs that leaves early: FLOPs and bytes, from the counted anatomy of a model alone.

A token that leaves at depth d pays for d blocks, for the probes on its way, for one readout of its output, and for the
state of the blocks it skips. Two ways to give them that state are known here:

- "copy": every skipped block writes its state from the hidden state at the exit (approximate; costs what
  `models.completion` observed).
- "deferred": the skipped blocks are run after all, in one go with the next token that reaches them (exact; saves the
  reading of their weights and no FLOP).

Leaving the state out is not offered: a decoder without it writes something else.

Design choices: everything is a `Work` of one step, so that reading weights is shared by the rows of a batch and FLOPs
and state are not. Blocks without counts raise, with the reason; nothing is estimated in their place.

Non-goals: time (see `times`), caches of the processor, activations, and what several devices tell each other.

Shapes: L blocks; arrays over depth have L + 1 entries, entry d for d blocks executed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exitbench.errors import CostError
from exitbench.models.shape import BlockShape, ModelShape

__all__ = [
    "ProbeCost",
    "State",
    "Unit",
    "Work",
    "batch_savings",
    "block_work",
    "check_arguments",
    "completion_work",
    "exit_costs",
    "expected_experts",
    "probe_work",
    "readout_work",
    "shares_of_full",
    "skipped_work",
]

State = Literal["copy", "deferred"]
Unit = Literal["flops", "bytes"]

_FEW = 3


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a step does, all its rows together."""

    flops: float = 0.0
    weight_bytes: float = 0.0
    state_bytes: float = 0.0

    @property
    def bytes(self) -> float:
        """All that is read and written."""
        return self.weight_bytes + self.state_bytes

    def __add__(self, other: "Work") -> "Work":
        return Work(
            flops=self.flops + other.flops,
            weight_bytes=self.weight_bytes + other.weight_bytes,
            state_bytes=self.state_bytes + other.state_bytes,
        )

    def __sub__(self, other: "Work") -> "Work":
        return Work(
            flops=self.flops - other.flops,
            weight_bytes=self.weight_bytes - other.weight_bytes,
            state_bytes=self.state_bytes - other.state_bytes,
        )

    def in_unit(self, unit: Unit) -> float:
        """The number of FLOPs, or of bytes."""
        return self.flops if unit == "flops" else self.bytes


@dataclass(frozen=True, kw_only=True)
class ProbeCost:
    """What a policy looks at, at each depth at which it looks."""

    readout: bool = True
    """Read out logits: of the whole vocabulary, or of `candidates`. Of the whole, the readout at the exit is also that
    of the output."""
    candidates: int | None = None
    """Read out these many tokens only; the output then needs a readout of its own."""
    translator: bool = False
    """A D x D map before the readout (tuned lens)."""
    gate_flops: int = 0
    """FLOPs of a classifier on the hidden state, taken for products with weights that are read."""

    def __post_init__(self) -> None:
        if self.candidates is not None and (self.candidates < 1 or not self.readout):
            raise CostError(f"candidates is {self.candidates}, expected at least 1, and a probe with a readout")
        if self.gate_flops < 0:
            raise CostError(f"gate_flops is {self.gate_flops}, expected at least 0")

    @property
    def doubles_as_output(self) -> bool:
        """Whether the probe at the exit is the readout of the output too."""
        return self.readout and self.candidates is None


def expected_experts(total: int, active: float, rows: float) -> float:
    """Expected distinct experts that `rows` tokens go through, if all are as likely: E (1 - (1 - a/E)^rows)."""
    missed: float = (1.0 - active / total) ** rows
    return total * (1.0 - missed)


def block_work(block: BlockShape, *, sequences: int = 1, tokens: int = 1, context: int) -> Work:
    """One step of one block.

    Decoding is one token a sequence; checking a draft of k tokens is a chunk of k + 1; prefill is a chunk as long as
    the context. Weights are read once a step, cached state once a sequence.

    Args:
        block: counted sizes.
        sequences: B, in step.
        tokens: T, new positions of each sequence.
        context: positions of each sequence at the end of the step, the new ones included.

    Raises:
        CostError: the block has no cache.
    """
    if block.fixed_flops is None or block.flops_per_position is None:
        raise CostError("the model keeps no state between tokens: a decoded token has no cost of its own")
    # Latent attention expands what is cached in every step: once for all positions, whatever the new ones are.
    expansion = max(0, 2 * block.product_weights - block.fixed_flops) if block.flops_per_position else 0
    window = context if block.window is None else block.window
    attended = sum(min(context - tokens + i, window) for i in range(1, tokens + 1))
    seen = min(context, window + tokens - 1)
    flops = tokens * block.fixed_flops + (block.flops_per_position - expansion) * attended + expansion * seen
    kept = block.state_bytes_per_position * (seen + tokens) + 2 * block.state_bytes
    return Work(
        flops=float(sequences * flops),
        weight_bytes=_weight_bytes(block, sequences * tokens),
        state_bytes=float(sequences * kept),
    )


def _weight_bytes(block: BlockShape, rows: int) -> float:
    """Bytes of the weights that a step of `rows` tokens reads: of experts those expected to be chosen by any."""
    experts = block.experts
    if experts is None or experts.active >= experts.total:
        return float(block.weight_bytes)
    # P = N + E e and A = N + a e: from all and active parameters to those of one expert.
    of_one = (block.parameters - block.active_parameters) / (experts.total - experts.active)
    more = expected_experts(experts.total, experts.active, rows) - experts.active
    return block.weight_bytes * (1.0 + more * of_one / block.active_parameters)


def completion_work(block: BlockShape, *, sequences: int = 1, context: int) -> Work:
    """Writing the state of a skipped block from the hidden state at the exit.

    Raises:
        CostError: it was not observed what that takes.
    """
    flops, per_position = block.completion_flops, block.completion_flops_per_position
    if flops is None or per_position is None or block.completion_weight_bytes is None:
        raise CostError(block.completion_reason or "traced before that was counted")
    attended = context if block.window is None else min(context, block.window)
    read = attended * block.state_bytes_per_position * per_position / (block.flops_per_position or 1)
    written = block.state_bytes_per_position + 2 * block.state_bytes
    return Work(
        flops=float(sequences * (flops + per_position * attended)),
        weight_bytes=float(block.completion_weight_bytes),
        state_bytes=float(sequences * (read + written)),
    )


def readout_work(shape: ModelShape, *, rows: int = 1, tokens_read: int | None = None) -> Work:
    """One readout of each of `rows` tokens.

    Args:
        shape: of the model.
        rows: hidden states read out together.
        tokens_read: size of the vocabulary that is read out; None for all of it.
    """
    share = 1.0 if tokens_read is None else min(tokens_read / shape.vocab_size, 1.0)
    return _products(shape.head_weights * share, shape.head_bytes * share, rows)


def probe_work(shape: ModelShape, probe: ProbeCost, *, rows: int = 1) -> Work:
    """All that one probe does but a readout of the whole vocabulary."""
    number_bytes = shape.head_bytes / shape.head_weights
    mapped = (shape.hidden_size**2 if probe.translator else 0) + probe.gate_flops / 2
    work = _products(mapped, mapped * number_bytes, rows)
    return work if probe.candidates is None else work + readout_work(shape, rows=rows, tokens_read=probe.candidates)


def _products(weights: float, num_bytes: float, rows: int) -> Work:
    return Work(flops=2.0 * rows * weights, weight_bytes=num_bytes)


def exit_costs(
    shape: ModelShape,
    *,
    state: State,
    unit: Unit,
    batch: int = 1,
    context: int = 512,
    probe: ProbeCost,
    probes: Sequence[int],
) -> NDArray[np.float64]:
    """Cost of a decoded token by exit depth, as a share of the full model's own: all blocks and one readout.

    Args:
        shape: of the model.
        state: how skipped blocks get their state.
        unit: of what.
        batch: rows that take the step together, all to the same depth; they share the reading of weights.
        context: positions in the cache, the token included.
        probe: what is looked at.
        probes: depths below L at which it is; a token that leaves at d has been probed at every one up to d.

    Returns:
        (L + 1,) shares. Net saving is 1 minus that, and may be negative: at L it is minus the failed probes.

    Raises:
        CostError: a count that is missing, and why; or an argument out of range.
    """
    check_arguments(shape, batch, context, probes)
    run = [step.in_unit(unit) for step in _executed(shape, batch, context)]
    skipped = [step.in_unit(unit) for step in skipped_work(shape, state, batch, context)]
    return shares_of_full(
        run=run,
        skipped=skipped,
        readout=readout_work(shape, rows=batch).in_unit(unit),
        look=probe_work(shape, probe, rows=batch).in_unit(unit),
        probe=probe,
        probes=probes,
    )


def shares_of_full(
    *, run: ArrayLike, skipped: ArrayLike, readout: float, look: float, probe: ProbeCost, probes: Sequence[int]
) -> NDArray[np.float64]:
    """Costs by exit depth over the cost of all blocks and one readout, in any unit.

    Args:
        run: (L,) cost of each block when it is executed.
        skipped: (L,) the same when it is skipped.
        readout: of the whole vocabulary.
        look: all else that a probe does.
        probe: whether a probe reads out, and whether that can be the output.
        probes: depths at which it is done.

    Returns:
        (L + 1,) shares.
    """
    run_L, skipped_L = np.asarray(run, dtype=np.float64), np.asarray(skipped, dtype=np.float64)
    zero = np.zeros(1)
    executed = np.concatenate([zero, np.cumsum(run_L)])
    completed = np.concatenate([np.cumsum(skipped_L[::-1])[::-1], zero])
    depth = np.arange(len(executed))
    looks = (depth[:, None] >= np.asarray(sorted(set(probes)), dtype=np.int64)[None, :]).sum(axis=1)
    failed = looks - np.isin(depth, probes) if probe.doubles_as_output else 0 * looks
    costs = executed + completed + readout + looks * look + failed * readout
    shares: NDArray[np.float64] = costs / (run_L.sum() + readout)
    return shares


def batch_savings(
    shape: ModelShape,
    exit_cdf: ArrayLike,
    batches: Sequence[int],
    *,
    unit: Literal["blocks", "flops", "bytes"],
    context: int = 512,
) -> NDArray[np.float64]:
    """Expected gross share of a step's work in the blocks that is saved if rows move in lockstep.

    A step runs as deep as its deepest row, of B rows drawn independently: block k is skipped with probability
    F(k - 1)^B. Neither probes nor the state of skipped blocks are counted.

    Args:
        shape: of the model.
        exit_cdf: (L + 1,) F, share of tokens that leave at or before each depth; the last entry is 1.
        batches: B.
        unit: blocks count alike; FLOPs do not change with B, bytes do, for weights are read once a step.
        context: positions in the cache.

    Returns:
        (number of batches,) shares.
    """
    cdf = np.asarray(exit_cdf, dtype=np.float64)
    if cdf.shape != (shape.num_blocks + 1,):
        raise CostError(f"exit_cdf has shape {cdf.shape}, expected ({shape.num_blocks + 1},): one entry a depth")
    saved = []
    for batch in batches:
        check_arguments(shape, batch, context, ())
        costs = np.ones(shape.num_blocks)
        if unit != "blocks":
            costs = np.array([step.in_unit(unit) for step in _executed(shape, batch, context)])
        saved.append(float((costs * cdf[:-1] ** batch).sum() / costs.sum()))
    return np.array(saved)


def _executed(shape: ModelShape, batch: int, context: int) -> list[Work]:
    return [block_work(block, sequences=batch, context=context) for block in shape.blocks]


def skipped_work(shape: ModelShape, state: State, batch: int, context: int) -> list[Work]:
    """What a step does for the rows that skip each block.

    Deferred, a row more goes along when the block is run again: it costs its FLOPs and its state, and of weights the
    experts that nobody else in a step of twice the rows was to read.

    Raises:
        CostError: with "copy", names the blocks whose completion is not known, and why.
    """
    if state == "deferred":
        return [
            block_work(block, sequences=2 * batch, context=context)
            - block_work(block, sequences=batch, context=context)
            for block in shape.blocks
        ]
    works: list[Work] = []
    missing: dict[str, list[int]] = {}
    for number, block in enumerate(shape.blocks, start=1):
        try:
            works.append(completion_work(block, sequences=batch, context=context))
        except CostError as error:
            missing.setdefault(str(error), []).append(number)
    if missing:
        reason, numbers = next(iter(missing.items()))
        few = ", ".join(map(str, numbers[:_FEW])) + (f" and {len(numbers) - _FEW} more" if len(numbers) > _FEW else "")
        raise CostError(
            f"what it costs to skip block {few} of {shape.num_blocks} with the state 'copy' is not known: {reason}; "
            "use 'deferred'"
        )
    return works


def check_arguments(shape: ModelShape, batch: int, context: int, probes: Sequence[int]) -> None:
    """Refuse what is out of range.

    Raises:
        CostError: says what.
    """
    if batch < 1 or context < 1:
        raise CostError(f"batch is {batch} and context is {context}, expected at least 1 of each")
    outside = sorted(depth for depth in probes if not 0 <= depth < shape.num_blocks)
    if outside:
        raise CostError(f"a probe at depth {outside[0]} is no probe; expected depths from 0 to {shape.num_blocks - 1}")
