"""What an exit costs, against counts by hand and laws that any cost obeys."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import build_block, build_shape
from exitbench.errors import CostError
from exitbench.replay.cost import (
    ProbeCost,
    batch_savings,
    block_work,
    completion_work,
    exit_costs,
    expected_experts,
    probe_work,
    readout_work,
)
from replay_shapes import ATTENTION, LLAMA, MLP, MOE, NORMS, llama

READOUT, GATE = ProbeCost(), ProbeCost(readout=False, gate_flops=640)


def test_a_decoded_token_by_hand():
    """FLOPs without the context, weights read once for each row, or a key forgotten that is written."""
    one = block_work(build_block(**LLAMA), context=10)
    assert one.flops == 2 * 9216 + 10 * 128
    assert one.weight_bytes == 4 * 9280
    assert one.state_bytes == 128 * (10 + 1)
    four = block_work(build_block(**LLAMA), sequences=4, context=10)
    assert (four.flops, four.weight_bytes, four.state_bytes) == (4 * one.flops, one.weight_bytes, 4 * one.state_bytes)


def test_prefill_by_hand():
    """A prompt whose tokens all attend to all of it, or whose weights are read for each of them."""
    work = block_work(build_block(**LLAMA), tokens=5, context=5)
    assert work.flops == 5 * 2 * 9216 + (1 + 2 + 3 + 4 + 5) * 128
    assert work.weight_bytes == 4 * 9280
    assert work.state_bytes == 128 * (5 + 5)


def test_a_window_bounds_what_is_read():
    """Local attention at the cost of full attention."""
    block = build_block(**LLAMA, window=8)
    assert block_work(block, context=8) == block_work(block, context=800)
    # Three new tokens see 8 positions each, 10 together.
    chunk = block_work(block, tokens=3, context=800)
    assert chunk.flops == 3 * (2 * 9216 + 8 * 128)
    assert chunk.state_bytes == 128 * (10 + 3)


def test_latent_attention_expands_its_cache_once():
    """The expansion of cached latents charged for every token of a prompt at every position."""
    expansion = 2 * 1024
    block = build_block(**(LLAMA | {"fixed_flops": 2 * 9216 - expansion, "flops_per_position": 128 + expansion}))
    assert block_work(block, context=10).flops == block.decode_flops(10)
    assert block_work(block, tokens=5, context=5).flops == 5 * 2 * 9216 + 15 * 128


def test_a_recurrent_state_is_read_and_written_once():
    """A state that does not grow charged for each position."""
    block = build_block(**(LLAMA | {"flops_per_position": 0, "state_bytes_per_position": 0, "state_bytes": 3072}))
    assert block_work(block, context=10).state_bytes == block_work(block, context=99).state_bytes == 2 * 3072
    assert block_work(block, tokens=7, context=7).state_bytes == 2 * 3072


def test_experts_read_by_a_batch():
    """Every row charged with its own experts, or all experts read for one row."""
    block = build_block(**MOE)
    assert block_work(block, context=1).weight_bytes == pytest.approx(block.weight_bytes)
    # Two rows: 4 (1 - 1/4) = 3 distinct experts.
    two = block_work(block, sequences=2, context=1).weight_bytes
    assert two == pytest.approx(4 * (ATTENTION + 128 + 3 * MLP + NORMS))
    many = block_work(block, sequences=200, context=1).weight_bytes
    assert many == pytest.approx(4 * block.parameters)


@given(total=st.integers(2, 64), share=st.floats(0.01, 1), rows=st.integers(1, 500))
def test_distinct_experts_lie_between_those_of_one_token_and_all(total, share, rows):
    """More experts read than there are, fewer than one token needs, or fewer by one more row."""
    active = share * total
    distinct = expected_experts(total, active, rows)
    assert active - 1e-9 <= distinct <= total
    assert distinct <= expected_experts(total, active, rows + 1) <= distinct + active + 1e-9


def test_exit_by_hand():
    """Blocks, state or readouts counted once too often: 4 Llama blocks, left at depth 2 after looks at 1 and 2."""
    shape, block, head = llama(), 2 * 9216 + 10 * 128, 2 * 259 * 32
    costs = exit_costs(shape, state="copy", unit="flops", context=10, probe=READOUT, probes=[1, 2])
    full = 4 * block + head
    assert costs[0] == pytest.approx((4 * 2048 + head) / full)
    assert costs[1] == pytest.approx((block + 3 * 2048 + head) / full)
    assert costs[2] == pytest.approx((2 * block + 2 * 2048 + 2 * head) / full)
    assert costs[4] == pytest.approx(1 + 2 * head / full)


def test_bytes_by_hand():
    """Deferred blocks whose weights are paid for, or whose state is not."""
    shape, weights, state, head = llama(), 4 * 9280, 128 * 11, 4 * 259 * 32
    full = 4 * (weights + state) + head
    deferred = exit_costs(shape, state="deferred", unit="bytes", context=10, probe=READOUT, probes=[2])
    assert deferred[2] == pytest.approx((2 * weights + 4 * state + head) / full)
    assert deferred[3] == pytest.approx((3 * weights + 4 * state + 2 * head) / full)
    copied = exit_costs(shape, state="copy", unit="bytes", context=10, probe=READOUT, probes=[2])
    assert copied[2] == pytest.approx((2 * (weights + state) + 2 * (4 * 1056 + 128) + head) / full)


def test_deferred_experts_are_read_after_all():
    """Experts of a deferred token that the next one does not share, got for nothing."""
    costs = exit_costs(llama(**MOE), state="deferred", unit="bytes", context=1, probe=READOUT, probes=[0])
    # One expert more than the two that are read anyway, and keys and values.
    full = 4 * (4 * (ATTENTION + 128 + 2 * MLP + NORMS) + 256) + 4 * 259 * 32
    assert costs[0] == pytest.approx((4 * (4 * MLP + 256) + 4 * 259 * 32) / full)


def test_deferred_saves_no_flops():
    """Work that is only put off, sold as saved."""
    costs = exit_costs(llama(), state="deferred", unit="flops", probe=GATE, probes=[])
    assert costs == pytest.approx(np.ones(5))


def test_probes_by_kind():
    """A gate charged with a readout, or candidates with the whole vocabulary."""
    shape = llama()
    assert readout_work(shape, rows=3).flops == 3 * 2 * 259 * 32
    assert readout_work(shape, rows=3).bytes == 4 * 259 * 32
    assert probe_work(shape, READOUT).flops == 0
    assert probe_work(shape, GATE).flops == 640
    assert probe_work(shape, GATE).bytes == 4 * 320
    assert probe_work(shape, ProbeCost(translator=True)).flops == 2 * 32 * 32
    assert probe_work(shape, ProbeCost(candidates=7)).flops == pytest.approx(2 * 7 * 32)
    # The output still has to be read out in full.
    costs = exit_costs(shape, state="copy", unit="flops", probe=ProbeCost(candidates=7), probes=[1])
    plain = exit_costs(shape, state="copy", unit="flops", probe=READOUT, probes=[])
    full = 4 * block_work(shape.blocks[0], context=512).flops + 2 * 259 * 32
    assert costs[1] == pytest.approx(plain[1] + 2 * 7 * 32 / full)


unit_and_state = st.tuples(st.sampled_from(["flops", "bytes"]), st.sampled_from(["copy", "deferred"]))


@settings(deadline=None)
@given(unit_and_state, st.integers(1, 64), st.integers(1, 4096), st.integers(1, 8), st.booleans())
def test_a_later_exit_costs_more(how, batch, context, num_blocks, mixture):
    """Depth that makes a token cheaper, though every block costs more when it is run than when it is skipped."""
    unit, state = how
    shape = llama(num_blocks, **(MOE if mixture else LLAMA))
    costs = exit_costs(shape, state=state, unit=unit, batch=batch, context=context, probe=READOUT, probes=[])
    assert (np.diff(costs) >= -1e-12).all()
    assert costs[-1] == pytest.approx(1)
    assert (costs > 0).all()


@settings(deadline=None)
@given(unit_and_state, st.integers(1, 64), st.sets(st.integers(0, 5)))
def test_failed_probes_add_one_readout_each(how, batch, probes):
    """A probe that is free, or paid for at the exit a second time."""
    unit, state = how
    shape = llama(6)
    known = {"state": state, "unit": unit, "batch": batch, "context": 64}
    plain = exit_costs(shape, **known, probe=READOUT, probes=[])
    probed = exit_costs(shape, **known, probe=READOUT, probes=sorted(probes))
    blocks = sum(block_work(b, sequences=batch, context=64).in_unit(unit) for b in shape.blocks)
    readout = readout_work(shape, rows=batch).in_unit(unit)
    failed = [sum(p < d for p in probes) for d in range(7)]
    assert probed - plain == pytest.approx(np.array(failed) * readout / (blocks + readout))


@settings(deadline=None)
@given(st.integers(0, 5), st.integers(1, 2048))
def test_copy_saves_flops_and_never_more_than_leaving_out_the_blocks(depth, context):
    """A completion that is dearer than the block, or cheaper than nothing."""
    shape = llama(6)
    known = {"unit": "flops", "context": context, "probe": READOUT, "probes": []}
    copied = exit_costs(shape, state="copy", **known)[depth]
    deferred = exit_costs(shape, state="deferred", **known)[depth]
    blocks = block_work(shape.blocks[0], context=context).flops
    readout = 2 * 259 * 32
    assert (depth * blocks + readout) / (6 * blocks + readout) < copied < deferred


def test_a_large_batch_shares_the_weights():
    """Weights read for every row: what a batch saves in bytes would not depend on its size."""
    known = {"state": "deferred", "unit": "bytes", "context": 512, "probe": READOUT, "probes": []}
    alone = exit_costs(llama(), batch=1, **known)
    crowd = exit_costs(llama(), batch=1000, **known)
    assert alone[1] < crowd[1]
    assert crowd[1] == pytest.approx(1, abs=0.01)  # state is all that is left, and nothing of it is saved


def test_rows_in_lockstep():
    """A batch that stops when its first row does, or whose weights are read for every row."""
    shape, cdf = llama(2), [0.5, 0.8, 1.0]
    assert batch_savings(shape, cdf, [1, 2], unit="blocks") == pytest.approx([(0.5 + 0.8) / 2, (0.25 + 0.64) / 2])
    # Equal blocks: the unit makes no difference.
    assert batch_savings(shape, cdf, [3], unit="bytes") == pytest.approx(batch_savings(shape, cdf, [3], unit="blocks"))
    unequal = build_shape([0.5, 0.5], blocks=(build_block(**LLAMA), build_block(**MOE)))
    works = [[block_work(b, sequences=n, context=512).bytes for b in unequal.blocks] for n in (1, 4)]
    expected = [np.average([0.5**n, 0.8**n], weights=w) for n, w in zip((1, 4), works, strict=True)]
    assert batch_savings(unequal, cdf, [1, 4], unit="bytes") == pytest.approx(expected)


def test_attention_that_feeds_a_state_costs_by_the_context():
    """A completion whose attention over the context is free."""
    block = build_block(**(LLAMA | {"completion_flops_per_position": 64}))
    work = completion_work(block, context=100)
    assert work.flops == 2048 + 64 * 100
    # Half of the attention reads half of what is cached.
    assert work.state_bytes == 128 * 100 / 2 + 128


def test_head_of_an_old_trace():
    """Bytes of a head that older traces do not state: as many a number as the blocks have."""
    shape = llama().model_copy(update={"head_weight_bytes": None})
    assert shape.head_bytes == 4 * 259 * 32


def test_what_is_missing_is_said():
    """A completion that nobody counted, taken for nothing."""
    shape = llama()
    lost = build_block(**(LLAMA | {"completion_flops": None, "completion_reason": "q is quantised"}))
    some = shape.model_copy(update={"blocks": (*shape.blocks[:1], lost, lost, lost, lost)})
    with pytest.raises(CostError, match=r"block 2, 3, 4 and 1 more of 5 .*: q is quantised; use 'deferred'"):
        exit_costs(some, state="copy", unit="flops", probe=READOUT, probes=[])
    assert np.isfinite(exit_costs(some, state="deferred", unit="flops", probe=READOUT, probes=[])).all()
    old = shape.model_copy(update={"blocks": (build_block(),) * 4})
    with pytest.raises(CostError, match="traced before that was counted"):
        exit_costs(old, state="copy", unit="flops", probe=READOUT, probes=[])
    without = shape.model_copy(update={"blocks": (build_block(fixed_flops=None, flops_per_position=None),) * 4})
    with pytest.raises(CostError, match="keeps no state between tokens"):
        exit_costs(without, state="deferred", unit="flops", probe=READOUT, probes=[])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"context": 0}, "context is 0"),
        ({"probes": [4]}, "probe at depth 4 is no probe; expected depths from 0 to 3"),
        ({"probes": [-1]}, "probe at depth -1"),
    ],
)
def test_arguments_out_of_range(arguments, said):
    """A probe of the full model, or nobody in the batch: numbers that mean nothing."""
    given_all = {"state": "copy", "unit": "flops", "probe": READOUT, "probes": []} | arguments
    with pytest.raises(CostError, match=said):
        exit_costs(llama(), **given_all)
    with pytest.raises(CostError, match="candidates is 0"):
        ProbeCost(candidates=0)
    with pytest.raises(CostError, match="gate_flops is -1"):
        ProbeCost(gate_flops=-1)
    with pytest.raises(CostError, match=r"exit_cdf has shape \(3,\)"):
        batch_savings(llama(), [0, 0, 1], [1], unit="blocks")
