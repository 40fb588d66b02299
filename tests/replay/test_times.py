"""Projected times, against rooflines by hand and against bytes and FLOPs where one of them is the bound."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitbench.errors import CostError
from exitbench.replay.cost import ProbeCost, Work, exit_costs
from exitbench.replay.profiles import RooflineProfile
from exitbench.replay.times import chunk_factor, exit_times, roofline_s, step_times
from replay_shapes import MOE, llama, measured

READOUT = ProbeCost()


def machine(peak=1e12, bandwidth=1e9):
    """By default so fast at computing that memory is always the bound."""
    return RooflineProfile(
        name="machine", source="made up", peak_flops_per_s={"float32": peak}, bandwidth_bytes_per_s=bandwidth
    )


def test_roofline_by_hand():
    """The shorter of the two times, or their sum."""
    work = Work(flops=6e9, weight_bytes=3e9, state_bytes=1e9)
    assert roofline_s(work, machine(peak=1e9, bandwidth=1e9), "float32") == 6
    assert roofline_s(work, machine(peak=3e9, bandwidth=1e9), "float32") == 4
    with pytest.raises(CostError, match="no peak for bfloat16, expected float32"):
        roofline_s(work, machine(), "bfloat16")


@pytest.mark.parametrize("state", ["copy", "deferred"])
@settings(deadline=None, max_examples=25)
@given(batch=st.integers(1, 32), probes=st.sets(st.integers(0, 3)))
def test_one_bound_everywhere_is_that_unit(state, batch, probes):
    """A projection that does not follow the counts where only one of them matters."""
    known = {"state": state, "batch": batch, "context": 40, "probe": READOUT, "probes": sorted(probes)}
    slow_memory = exit_times(llama(), machine(peak=1e30), dtype="float32", **known)
    assert slow_memory == pytest.approx(exit_costs(llama(), unit="bytes", **known))
    slow_compute = exit_times(llama(), machine(bandwidth=1e30), dtype="float32", **known)
    assert slow_compute == pytest.approx(exit_costs(llama(), unit="flops", **known))


def test_full_time_by_hand():
    """Shares of something else than the full model's own step."""
    blocks, readout = step_times(llama(), machine(peak=1e30), dtype="float32", context=10)
    seconds = sum(blocks) + readout
    assert seconds == pytest.approx((4 * (4 * 9280 + 128 * 11) + 4 * 259 * 32) / 1e9)
    blocks, readout = step_times(llama(2), measured(), dtype="float32", context=16)
    assert sum(blocks) + readout == 3.0


def test_a_chunk_where_memory_is_the_bound():
    """A draft whose check is charged token by token, though the weights are read once."""
    in_memory = chunk_factor(llama(), machine(peak=1e30), 5, dtype="float32", context=64)
    assert in_memory == pytest.approx((4 * 9280 + 128 * (64 + 5)) / (4 * 9280 + 128 * (64 + 1)))
    computing = chunk_factor(llama(), machine(bandwidth=1e30), 5, dtype="float32", context=64)
    assert computing == pytest.approx((5 * 2 * 9216 + 128 * (60 + 61 + 62 + 63 + 64)) / (2 * 9216 + 128 * 64))


def test_a_chunk_reads_more_experts():
    """A mixture whose draft is checked as if all its tokens went to the same experts."""
    dense = chunk_factor(llama(), machine(peak=1e30), 4, dtype="float32", context=64)
    assert chunk_factor(llama(**MOE), machine(peak=1e30), 4, dtype="float32", context=64) > 1.2 > dense


def test_measured_parts():
    """Times of another part, of the wrong number of rows, or per token."""
    shape, known = llama(2), {"dtype": "float32", "context": 16, "probe": READOUT, "probes": [1]}
    copied = exit_times(shape, measured(), state="copy", **known)
    assert copied == pytest.approx([(2 * 1 + 1) / 3, (1 + 1 + 1) / 3, (2 + 1 + 1) / 3])
    deferred = exit_times(shape, measured(), state="deferred", **known)
    assert deferred == pytest.approx([(2 * 0.5 + 1) / 3, (1 + 0.5 + 1) / 3, (2 + 1 + 1) / 3])
    mapped = exit_times(shape, measured(), state="deferred", **(known | {"probe": ProbeCost(translator=True)}))
    assert mapped[1] == pytest.approx((1 + 0.5 + 1 + 1) / 3)
    assert chunk_factor(shape, measured(), 3, dtype="float32", context=16, first_block=1) == 2.5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dtype": "bfloat16"}, "with dtype float32, got bfloat16"),
        ({"context": 17}, "with context 16, got 17"),
        ({"batch": 2}, "with batch 1, got 2"),
        ({"shape": llama(3)}, "with blocks 2, got 3"),
        ({"probe": ProbeCost(candidates=5)}, "no times for gates or readouts of some candidates"),
        ({"profile": measured(completion=None)}, "no times for the state 'copy'; use 'deferred'"),
    ],
)
def test_a_measurement_is_not_stretched(changes, said):
    """Times of one model, dtype or context sold as those of another."""
    known = {"shape": llama(2), "profile": measured(), "dtype": "float32", "state": "copy", "context": 16}
    arguments = known | {"probe": READOUT, "probes": [1]} | changes
    with pytest.raises(CostError, match=said):
        exit_times(arguments.pop("shape"), arguments.pop("profile"), **arguments)


def test_chunks_that_cannot_be():
    """A chunk longer than the context, or of no token."""
    for wrong in ({"tokens": 0}, {"tokens": 9}, {"tokens": 2, "first_block": 4}):
        tokens = wrong.pop("tokens")
        with pytest.raises(CostError, match="expected"):
            chunk_factor(llama(), machine(), tokens, dtype="float32", context=8, **wrong)
