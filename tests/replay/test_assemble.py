"""The whole comparison: what takes part, what is refused, and that equal seeds give equal results."""

import dataclasses

import numpy as np
import pytest

from exitbench.errors import TraceError
from exitbench.policies.agreement import KlToPrevious
from exitbench.policies.confidence import Margin, TopProbability
from exitbench.policies.schedule import Schedule
from exitbench.policies.static import FixedDepth
from exitbench.policies.trained import Gate
from exitbench.replay.assemble import ReplayOptions, at_schedules, replay, why_no_replay, zoo
from exitbench.replay.targets import Target

QUICK = ReplayOptions(targets=(Target(eps=0.05),), draws=40)


@pytest.fixture(scope="module")
def traced(make_trace, make_noisy):
    def build(num_prompts=12, **options):
        top1, prob = make_noisy(np.random.default_rng(1), num_prompts * 8)
        prompts = np.repeat(np.arange(num_prompts), 8)
        return make_trace(top1, prob=prob, prompts=prompts, **options)

    return build


@pytest.fixture(scope="module")
def made(traced):
    return replay(traced(), [Margin(), FixedDepth()], options=QUICK, command="a command")


def without(trace, *names):
    return dataclasses.replace(trace, signals={k: v for k, v in trace.signals.items() if k not in names})


def test_zoo_leaves_out_what_the_trace_cannot_show(traced):
    """A comparison that fails on an optional signal nobody recorded, or that drops a policy it could have."""
    names = {policy.name for policy in zoo(traced())}
    assert "kl-prev" in names
    assert {policy.name for policy in zoo(without(traced(), "kl_prev"))} == names - {"kl-prev"}


def test_policies_that_look_at_nothing_have_no_schedules():
    """The same fixed depth compared twice, under two names of its probes."""
    assert [policy.schedule.text for policy in at_schedules(Margin, ["every-2", "learned-3"])] == [
        "every-2",
        "learned-3",
    ]
    assert [policy.schedule.text for policy in at_schedules(FixedDepth, ["every-2", "learned-3"])] == ["every"]


def test_the_plain_threshold_always_takes_part(made, traced):
    """Differences to a reference that is not in the table."""
    assert [p.policy for p in made.points][:3] == ["top1-prob", "margin", "fixed-depth"]
    again = replay(traced(), [Margin(), TopProbability()], options=QUICK)
    assert [p.policy for p in again.points][:2] == ["margin", "top1-prob"]


def test_best_ones_are_added_for_every_known_column(made, traced):
    """A best of a column without numbers."""
    assert [p.policy for p in made.points][3:] == ["best by blocks", "best by flops_copy", "best by bytes_deferred"]
    old = replay(traced(completed=False), [Margin()], options=QUICK)
    assert [p.policy for p in old.points][2:] == ["best by blocks", "best by bytes_deferred"]


def test_frontiers_of_what_needs_no_fitting(traced):
    """A frontier of a gate fitted on the tokens it is drawn for."""
    policies = [Margin(), Gate(), Margin(schedule=Schedule(learned=2))]
    made = replay(traced(), policies, options=QUICK)
    assert [(f.policy, f.probes) for f in made.frontiers] == [("top1-prob", "every"), ("margin", "every")]


def test_equal_seeds_give_equal_results(made, traced):
    """A draw from unseeded randomness; or a seed that nothing listens to."""
    again = replay(traced(), [Margin(), FixedDepth()], options=QUICK, command="a command")
    assert again == made
    other = replay(traced(), [Margin(), FixedDepth()], options=dataclasses.replace(QUICK, seed=1), command="a command")
    assert other.points[0].saved_blocks.low != made.points[0].saved_blocks.low
    assert other.stable.value == made.stable.value


def test_what_identifies_the_replay_is_recorded(made, traced):
    """A result whose trace, options or command nobody knows."""
    manifest = traced().manifest
    assert (made.model, made.workload, made.settings) == (manifest.model, manifest.workload, manifest.settings)
    assert (made.command, made.trace_command) == ("a command", manifest.command)
    assert (made.n_tokens, made.n_prompts, made.batch, made.context) == (96, 12, 1, 512)
    assert made.categories == ["chat"]
    assert made.profile == ""


def test_bounds_are_those_of_the_card(made, traced):
    """An EES beside the policies that is another one than the card's."""
    trace = traced()
    assert made.stable.value == pytest.approx(1 - trace.decision_depth.mean() / 4)
    assert made.stable.value <= made.first_match.value


def test_drafts_are_projected_or_said_to_be_unknown(made, traced):
    """A speedup of nothing."""
    assert made.speculation.value >= 1
    shape = traced().manifest.shape
    blocks = tuple(b.model_copy(update={"fixed_flops": None, "flops_per_position": None}) for b in shape.blocks)
    manifest = traced().manifest.model_copy(update={"shape": shape.model_copy(update={"blocks": blocks})})
    unknown = replay(dataclasses.replace(traced(), manifest=manifest), [Margin()], options=QUICK)
    assert unknown.speculation is unknown.speculation_drafts is None
    assert "no state between tokens" in unknown.reasons["speculation"]


def test_what_cannot_be_replayed(traced):
    """Thresholds from a handful of prompts, or a traceback for a trace without signals."""
    with pytest.raises(TraceError, match="at least 10 prompts, the trace has 9"):
        replay(traced(9), [Margin()], options=QUICK)
    with pytest.raises(TraceError, match="made with --fast"):
        replay(traced(fast=True), [Margin()], options=QUICK)
    with pytest.raises(TraceError, match="kl_prev"):
        replay(without(traced(), "kl_prev"), [KlToPrevious()], options=QUICK)
    with pytest.raises(TraceError, match="fitted on a model with weights aaaaaaaaaaaa"):
        replay(traced(), [Margin(fitted_on="a" * 64)], options=QUICK)
    assert why_no_replay(traced()) == ""
