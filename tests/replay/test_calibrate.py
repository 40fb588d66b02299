"""Policies made ready for use."""

import numpy as np
import pytest

from exitbench.errors import TraceError
from exitbench.policies.confidence import Margin, TopProbability
from exitbench.policies.schedule import Schedule
from exitbench.policies.trained import Gate
from exitbench.replay.assemble import ReplayOptions
from exitbench.replay.calibrate import calibrate
from exitbench.replay.look import look
from exitbench.replay.targets import Target

TARGETS = (Target(eps=0.05), Target(eps=0.2), Target(eps=0.01, procedure="fixed-sequence"))
OPTIONS = ReplayOptions(targets=TARGETS, draws=60)


@pytest.fixture(scope="module")
def trace(make_trace, make_noisy):
    top1, prob = make_noisy(np.random.default_rng(2), 30 * 10)
    return make_trace(top1, prob=prob, prompts=np.repeat(np.arange(30), 10))


def test_every_policy_for_every_target_that_can_be_held(trace):
    """A policy saved for a promise that cannot be made, or under another target."""
    made = list(calibrate(trace, [TopProbability(), Margin()], OPTIONS))
    assert [(given.name, target.eps) for given, target, _ in made] == [
        *(("top1-prob", 0.05), ("top1-prob", 0.2)),
        *(("margin", 0.05), ("margin", 0.2)),
    ]
    strict, loose = (ready.threshold for given, _, ready in made if given.name == "top1-prob")
    assert loose < strict


def test_thresholds_hold_on_the_prompts_that_chose_them(trace):
    """A threshold one step too loose."""
    for _, target, ready in calibrate(trace, [TopProbability()], OPTIONS):
        depth = ready.exits(look(trace, ready))
        agrees = trace.top1_id[np.arange(trace.num_tokens), depth] == trace.top1_id[:, -1]
        assert 1 - agrees.mean() <= target.eps


def test_what_is_learned_is_learned(trace):
    """A policy handed out that still has to be fitted, or fitted on no model in particular."""
    policies = [Gate(), Margin(schedule=Schedule(learned=2))]
    for _, _, ready in calibrate(trace, policies, OPTIONS):
        assert not ready.learns
    gate = next(ready for given, _, ready in calibrate(trace, policies, OPTIONS) if given.name == "gate")
    assert gate.fitted_on == trace.manifest.model.weights_sha256


def test_a_policy_of_another_model_is_refused(trace):
    """A gate calibrated where its weights mean nothing."""
    with pytest.raises(TraceError, match="was fitted on a model"):
        list(calibrate(trace, [Margin(fitted_on="a" * 64)], OPTIONS))
