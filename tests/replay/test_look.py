"""What a policy would have seen of a trace."""

import dataclasses

import numpy as np
import pytest

from exitbench.errors import TraceError
from exitbench.policies.agreement import KlToPrevious
from exitbench.policies.confidence import DecayingThreshold, TopProbability
from exitbench.policies.schedule import Schedule
from exitbench.policies.trained import Gate
from exitbench.replay.look import calibration_of, look, require_same_model


def test_shows_the_declared_signals_at_the_probe_depths(typical_trace):
    """A signal that was not declared, columns of other depths, or depth 0 and depth L among the probes."""
    seen = look(typical_trace, TopProbability(schedule=Schedule(every=2)))
    assert seen.depths.tolist() == [2, 4]
    assert seen.num_blocks == 6
    assert list(seen.signals) == ["top1_prob"]
    np.testing.assert_array_equal(seen.signals["top1_prob"], typical_trace.signals["top1_prob"][:, [2, 4]])
    assert look(typical_trace, TopProbability()).depths.tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("on", "limit"), [("answers", 32), ("text", 512)])
def test_positions_and_the_longest_answer(on, limit, make_trace):
    """Positions in the sequence, prompt included, in place of those in the answer; turns run together."""
    trace = make_trace([[1, 1, 1]] * 7, prompts=[0, 0, 0, 0, 0, 1, 1], turn=[0, 0, 0, 1, 1, 0, 0], on=on)
    seen = look(trace, DecayingThreshold())
    assert seen.answer_position.tolist() == [0, 1, 2, 0, 1, 0, 1]
    assert seen.answer_limit == limit


def test_a_signal_that_was_not_recorded(typical_trace, make_trace):
    """A KeyError, or advice that does not help."""
    signals = {name: values for name, values in typical_trace.signals.items() if name != "kl_prev"}
    with pytest.raises(TraceError) as caught:
        look(dataclasses.replace(typical_trace, signals=signals), KlToPrevious())
    assert str(caught.value) == (
        "policy 'kl-prev' looks at kl_prev, which the trace lacks; record it with 'exitbench trace constructed "
        "--workload constructed --also kl_prev --out NEW_DIR'"
    )
    with pytest.raises(TraceError, match="looks at margin, top1_prob, which the trace lacks; it was made with --fast"):
        look(make_trace([[1, 1]], fast=True), Gate())


def test_calibration_of_some_tokens(make_trace):
    """Agreement at other depths than the probes, or shares over all tokens in place of those kept."""
    trace = make_trace([[0, 1, 2, 3], [3, 3, 3, 3], [0, 3, 1, 3], [0, 1, 3, 3]], block_costs=[0.5, 0.25, 0.25])
    keep, rho = np.array([False, True, True, True]), np.array([1, 0.5, 0.25, 0])
    got = calibration_of(trace, TopProbability(schedule=Schedule(depths=(2,))), keep=keep, rho=rho, probe_cost=0.1)
    assert got.seen.depths.tolist() == [2]
    np.testing.assert_array_equal(got.seen.signals["top1_prob"], trace.signals["top1_prob"][keep][:, [2]])
    assert got.agrees.tolist() == [[True], [False], [True]]
    np.testing.assert_allclose(got.decided, [1 / 3, 1 / 3, 2 / 3, 1])
    assert (got.probe_cost, got.weights_sha256) == (0.1, trace.manifest.model.weights_sha256)
    assert got.rho is rho


def test_a_policy_fitted_on_another_model_is_refused(typical_trace):
    """Thresholds and weights of one model used on another."""
    require_same_model(typical_trace, TopProbability())
    fitted = Gate(fitted_on=typical_trace.manifest.model.weights_sha256)
    require_same_model(typical_trace, fitted)
    with pytest.raises(
        TraceError, match="'gate' was fitted on a model with weights ffffffffffff, the trace is of constructed"
    ):
        require_same_model(typical_trace, fitted.model_copy(update={"fitted_on": "f" * 64}))


def test_looking_changes_nothing(typical_trace):
    """A policy that writes into the trace."""
    before = {name: values.copy() for name, values in typical_trace.signals.items()}
    seen = look(typical_trace, Gate())
    for values in seen.signals.values():
        values += 1
    after = dataclasses.asdict(typical_trace)["signals"]
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values)
