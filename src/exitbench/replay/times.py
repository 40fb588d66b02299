"""Projected time of a decoded token by exit depth, on a machine known by its peaks or by measured parts.

On a roofline every part of a step, a block or a readout, takes the longer of computing and of moving its bytes; parts
follow one another. With a measured profile the parts' own times are added. Both are projections: what a decoder really
takes, with launches and everything between, has to be measured.

Non-goals: overlap of parts, and tokens of unequal depth in a batch (see `cost.batch_savings`).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exitbench.errors import CostError
from exitbench.models.shape import ModelShape
from exitbench.replay.cost import (
    ProbeCost,
    State,
    Work,
    block_work,
    check_arguments,
    probe_work,
    readout_work,
    shares_of_full,
    skipped_work,
)
from exitbench.replay.profiles import MeasuredProfile, Profile, RooflineProfile

__all__ = ["chunk_factor", "exit_times", "roofline_s", "step_times"]


def roofline_s(work: Work, profile: RooflineProfile, dtype: str) -> float:
    """Seconds that some work takes at least.

    Raises:
        CostError: the profile has no peak for that dtype.
    """
    peak = profile.peak_flops_per_s.get(dtype)
    if peak is None:
        raise CostError(
            f"profile {profile.name} has no peak for {dtype}, expected {' or '.join(profile.peak_flops_per_s)}"
        )
    return max(work.flops / peak, work.bytes / profile.bandwidth_bytes_per_s)


def exit_times(
    shape: ModelShape,
    profile: Profile,
    *,
    dtype: str,
    state: State,
    batch: int = 1,
    context: int = 512,
    probe: ProbeCost,
    probes: Sequence[int],
) -> NDArray[np.float64]:
    """As `exit_costs`, in time: of a decoded token by exit depth, over the full model's own.

    Args:
        shape: of the model.
        profile: of the machine; measured for this model, dtype and context, or a roofline.
        dtype: in which it computes, e.g. "bfloat16".
        state: how skipped blocks get their state.
        batch: rows in step; of a measured profile, 1.
        context: positions in the cache.
        probe: what is looked at.
        probes: depths at which it is.

    Returns:
        (L + 1,) shares.

    Raises:
        CostError: a count or a time that is missing.
    """
    check_arguments(shape, batch, context, probes)
    if isinstance(profile, RooflineProfile):
        run = _roofline_blocks_s(shape, profile, dtype, sequences=batch, tokens=1, context=context)
        if state == "deferred":
            twice = _roofline_blocks_s(shape, profile, dtype, sequences=2 * batch, tokens=1, context=context)
            skipped = [two - one for one, two in zip(run, twice, strict=True)]
        else:
            skipped = [roofline_s(work, profile, dtype) for work in skipped_work(shape, state, batch, context)]
        readout = roofline_s(readout_work(shape, rows=batch), profile, dtype)
        look = roofline_s(probe_work(shape, probe, rows=batch), profile, dtype)
    else:
        _require_same(shape, profile, dtype, batch, context)
        run = [block.at(1) for block in profile.blocks]
        skipped = _measured_skipped_s(profile, state)
        readout, look = profile.readout.at(1), _measured_look_s(profile, probe)
    return shares_of_full(run=run, skipped=skipped, readout=readout, look=look, probe=probe, probes=probes)


def step_times(
    shape: ModelShape, profile: Profile, *, dtype: str, batch: int = 1, context: int = 512
) -> tuple[list[float], float]:
    """Seconds of each block and of the readout in a step of the full model: what shares in `exit_times` are of."""
    if isinstance(profile, RooflineProfile):
        blocks = _roofline_blocks_s(shape, profile, dtype, sequences=batch, tokens=1, context=context)
        return blocks, roofline_s(readout_work(shape, rows=batch), profile, dtype)
    _require_same(shape, profile, dtype, batch, context)
    return [block.at(1) for block in profile.blocks], profile.readout.at(1)


def chunk_factor(
    shape: ModelShape,
    profile: Profile,
    tokens: int,
    *,
    dtype: str,
    first_block: int = 0,
    batch: int = 1,
    context: int = 512,
) -> float:
    """Time that blocks take for a chunk of so many tokens of one sequence, over that for one token.

    1 where memory is the bound and all tokens go through the same weights; a mixture reads more experts.

    Args:
        shape: of the model.
        profile: of the machine.
        tokens: k + 1 to check a draft of k.
        dtype: in which it computes.
        first_block: blocks before it are left out: d to check what was drafted at depth d.
        batch: sequences in step; of a measured profile, 1.
        context: positions in the cache at the end of the chunk.
    """
    if not 0 <= first_block < shape.num_blocks or tokens < 1:
        raise CostError(
            f"first_block is {first_block} and tokens is {tokens}, expected a block from 0 to {shape.num_blocks - 1} "
            "and at least 1 token"
        )
    check_arguments(shape, batch, context - tokens + 1, ())
    if isinstance(profile, RooflineProfile):
        one, chunk = (
            _roofline_blocks_s(shape, profile, dtype, sequences=batch, tokens=n, context=context) for n in (1, tokens)
        )
    else:
        _require_same(shape, profile, dtype, batch, context)
        one, chunk = ([block.at(n) for block in profile.blocks] for n in (1, tokens))
    return sum(chunk[first_block:]) / sum(one[first_block:])


def _roofline_blocks_s(
    shape: ModelShape, profile: RooflineProfile, dtype: str, *, sequences: int, tokens: int, context: int
) -> list[float]:
    works = (block_work(block, sequences=sequences, tokens=tokens, context=context) for block in shape.blocks)
    return [roofline_s(work, profile, dtype) for work in works]


def _measured_skipped_s(profile: MeasuredProfile, state: State) -> list[float]:
    if state == "deferred":
        # Two tokens of a sequence in one chunk in place of one; within the noise that may seem to take less.
        return [max(block.at(2) - block.at(1), 0.0) for block in profile.blocks]
    if profile.completion is None:
        raise CostError(f"profile {profile.name} has no times for the state 'copy'; use 'deferred'")
    return [part.at(1) for part in profile.completion]


def _measured_look_s(profile: MeasuredProfile, probe: ProbeCost) -> float:
    if probe.candidates is not None or probe.gate_flops:
        raise CostError(
            f"profile {profile.name} has no times for gates or readouts of some candidates; use a roofline profile"
        )
    return profile.translator.at(1) if probe.translator else 0.0


def _require_same(shape: ModelShape, profile: MeasuredProfile, dtype: str, batch: int, context: int) -> None:
    """Refuse to project one measurement onto another.

    Raises:
        CostError: says what differs.
    """
    for name, measured, wanted in (
        ("blocks", len(profile.blocks), shape.num_blocks),
        ("dtype", profile.dtype, dtype),
        ("batch", 1, batch),
        ("context", profile.context, context),
    ):
        if measured != wanted:
            raise CostError(
                f"profile {profile.name} was measured with {name} {measured}, got {wanted}; measure it with 'exitbench "
                "profile', or use a roofline profile"
            )
