"""Columns of savings: against the cost model itself, and unknown ones with their reason."""

import dataclasses

import numpy as np
import pytest

from exitbench.models.shape import Experts
from exitbench.policies.agreement import HiddenSaturation, KlToPrevious
from exitbench.policies.confidence import TopProbability
from exitbench.policies.schedule import Schedule
from exitbench.policies.static import FixedDepth
from exitbench.policies.trained import Gate
from exitbench.replay.columns import COLUMNS, CostColumns
from exitbench.replay.cost import ProbeCost, exit_costs
from exitbench.replay.profiles import PROFILES
from replay_shapes import LLAMA, PART, llama, measured

ROOFLINE = PROFILES["h100-sxm"]


@pytest.fixture(scope="module")
def traced(make_trace):
    """Builds a trace of a Llama of 4 blocks, with changes to the blocks and the settings."""

    def build(settings=None, **changes):
        trace = make_trace(np.ones((12, 5), dtype=int))
        manifest = trace.manifest.model_copy(
            update={
                "shape": llama(**changes),
                "settings": trace.manifest.settings.model_copy(update=settings or {}),
            }
        )
        return dataclasses.replace(trace, manifest=manifest)

    return build


def of(trace, policy, *, batch=1, context=512, profile=None):
    return CostColumns(trace, batch=batch, context=context, profile=profile).of(policy)


@pytest.mark.parametrize(
    ("policy", "probe", "probes"),
    [
        (TopProbability(), ProbeCost(), [1, 2, 3]),
        (TopProbability(schedule=Schedule(every=2)), ProbeCost(), [2]),
        (HiddenSaturation(), ProbeCost(readout=False), [1, 2, 3]),
        (FixedDepth(), ProbeCost(readout=False), []),
        (KlToPrevious(schedule=Schedule(depths=(2,))), ProbeCost(), [1, 2]),
        (Gate(), ProbeCost(gate_flops=Gate.flops_per_probe), [1, 2, 3]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_columns_are_those_of_the_cost_model(traced, policy, probe, probes):
    """Probes that are free, made at other depths, or twice as dear; FLOPs and bytes exchanged; a cost for a saving."""
    trace = traced()
    at = {"batch": 2, "context": 64, "probe": probe, "probes": probes}
    got = of(trace, policy, batch=2, context=64)
    assert COLUMNS == ("blocks", "flops_copy", "bytes_deferred", "time_deferred")
    np.testing.assert_allclose(got[:, 0], [1, 0.75, 0.5, 0.25, 0], atol=1e-12)
    shape = trace.manifest.shape
    np.testing.assert_allclose(got[:, 1], 1 - exit_costs(shape, state="copy", unit="flops", **at))
    np.testing.assert_allclose(got[:, 2], 1 - exit_costs(shape, state="deferred", unit="bytes", **at))
    assert np.isnan(got[:, 3]).all()


def test_failed_probes_make_the_last_depth_negative(traced):
    """A token that never leaves taken for one that costs nothing more."""
    got = of(traced(), TopProbability())
    assert (got[-1, 1:3] < 0).all()
    assert got[-1, 0] == 0


def test_translators_cost(traced):
    """A trained lens that is free."""
    plain, tuned = (of(traced(settings={"readout": name}), TopProbability()) for name in ("logit", "tuned:x"))
    assert (tuned[1:, 1] < plain[1:, 1]).all()
    plain, tuned = (of(traced(settings={"readout": name}), HiddenSaturation()) for name in ("logit", "tuned:x"))
    np.testing.assert_array_equal(plain, tuned)


def test_times_need_a_profile(traced):
    """A column of projected time that nobody asked for, or one that ignores what was given."""
    with_times = CostColumns(traced(), batch=1, context=512, profile=ROOFLINE)
    assert with_times.known == list(COLUMNS)
    assert np.isfinite(with_times.of(FixedDepth())[:, 3]).all()
    without = CostColumns(traced(), batch=1, context=512, profile=None)
    assert without.reasons == {"time_deferred": "no profile was given; name one with --profile"}


def test_unknown_counts_leave_the_other_columns(traced):
    """One missing count that takes every column with it, or a number in its place."""
    lost = {"completion_flops": None, "completion_reason": "q is quantised"}
    columns = CostColumns(traced(**lost), batch=1, context=512, profile=None)
    assert columns.known == ["blocks", "bytes_deferred"]
    assert "q is quantised" in columns.reasons["flops_copy"]
    got = columns.of(FixedDepth())
    assert np.isnan(got[:, 1]).all()
    assert np.isfinite(got[:, 2]).all()


def profile_of(trace, **changes):
    """A measured profile that fits a trace in everything but the changes."""
    weights = trace.manifest.model.weights_sha256
    return measured(**({"weights_sha256": weights, "blocks": (PART,) * 4, "completion": (PART,) * 4} | changes))


def test_a_profile_of_another_model_is_a_reason(traced):
    """Times of one model projected on another with as many blocks, in the columns or in drafting."""
    trace = traced()
    assert CostColumns(trace, batch=1, context=16, profile=profile_of(trace)).known == list(COLUMNS)
    columns = CostColumns(trace, batch=1, context=16, profile=profile_of(trace, weights_sha256="a" * 64))
    assert "with weights aaaaaaaaaaaa, the trace is of" in columns.reasons["time_deferred"]
    assert "with weights aaaaaaaaaaaa, the trace is of" in columns.drafting


def test_drafts_are_as_long_as_the_profile_can_time(traced):
    """A replay that fails, after all its work, on the longest draft: profiles time a few chunk sizes only."""
    trace = traced()
    drafting = CostColumns(trace, batch=1, context=16, profile=profile_of(trace)).drafting
    assert drafting["lengths"] == (1, 2, 3)  # PART has up to 4 rows
    drafting["chunk_factor"](4)
    no_peak = CostColumns(traced({"dtype": "bfloat16"}), batch=1, context=16, profile=PROFILES["laptop-ryzen-7840u"])
    assert "no peak for bfloat16" in no_peak.drafting
    assert "batch" in CostColumns(trace, batch=2, context=16, profile=profile_of(trace)).drafting


def test_chunks_are_of_the_whole_batch(traced):
    """The check of a draft timed for one row where 64 rows are decoded, which is computing and not reading."""
    at = {"context": 16, "profile": ROOFLINE}
    one, many = (CostColumns(traced(), batch=batch, **at).drafting["chunk_factor"](13) for batch in (1, 64))
    assert many > 2 * one


def test_drafting_is_in_bytes(traced):
    """Shares that do not end at 1, or a readout in another unit."""
    columns = CostColumns(traced(), batch=1, context=8, profile=None)
    drafting = columns.drafting
    np.testing.assert_allclose(drafting["up_to"], [0, 0.25, 0.5, 0.75, 1])
    # Weights once, the keys and values of 8 positions read and of one written.
    block = LLAMA["weight_bytes"] + LLAMA["state_bytes_per_position"] * 9
    assert drafting["readout"] == pytest.approx(4 * 259 * 32 / (4 * block))
    # A chunk of 5 reads the weights and the 8 positions once, and writes 5.
    assert drafting["chunk_factor"](5) == pytest.approx((block + 4 * LLAMA["state_bytes_per_position"]) / block)
    assert drafting["lengths"] == (1, 2, 3, 4, 5, 6)  # chunks of 7 at most fit the context
    timed = CostColumns(traced(), batch=1, context=8, profile=ROOFLINE).drafting
    assert timed["chunk_factor"](5) >= 1
    assert isinstance(CostColumns(traced(fixed_flops=None), batch=1, context=8, profile=None).drafting, str)
    assert "longer than the context of 1" in CostColumns(traced(), batch=1, context=1, profile=None).drafting


def test_a_mixture_reads_more_experts_to_check_a_draft(traced):
    """A chunk as cheap as one token where each of its tokens goes through experts of its own."""
    experts = {"experts": Experts(total=8, active=2), "active_parameters": LLAMA["active_parameters"] // 2}
    dense, mixture = (
        CostColumns(trace, batch=1, context=64, profile=None).drafting["chunk_factor"](5)
        for trace in (traced(), traced(**experts))
    )
    assert dense < 1.1
    assert mixture > 1.5


def test_probe_as_blocks(traced):
    """Learned probe depths that take a readout for free, or a cosine for a readout."""
    columns = CostColumns(traced(), batch=1, context=8, profile=None)
    assert columns.probe_as_blocks(TopProbability()) == pytest.approx(259 * 32 / (4 * LLAMA["product_weights"]))
    assert columns.probe_as_blocks(HiddenSaturation()) == 0
    assert columns.probe_as_blocks(KlToPrevious()) == 2 * columns.probe_as_blocks(TopProbability())


def test_a_probe_that_nobody_timed_has_no_time(traced):
    """A whole comparison stopped, after minutes, by the one policy whose gate a measured profile has no time for."""
    trace = traced()
    columns = CostColumns(trace, batch=1, context=16, profile=profile_of(trace))
    assert "time_deferred" in columns.known
    values = columns.of(Gate())
    assert np.isnan(values[:, COLUMNS.index("time_deferred")]).all()
    assert np.isfinite(values[:, : COLUMNS.index("time_deferred")]).all()
    assert np.isfinite(columns.of(TopProbability())).all()
