"""Policies held to targets: what each outcome is, and the price of choosing the best of them."""

import numpy as np
import pytest

from exitbench.policies.confidence import Margin, TopProbability
from exitbench.policies.static import FixedDepth
from exitbench.policies.trained import Gate
from exitbench.replay.assemble import ReplayOptions, bench_of
from exitbench.replay.crossfit import best_of, cross_fit
from exitbench.replay.hold import best, hold, ready
from exitbench.replay.targets import Target, rule_for

TUNED = Target(eps=0.05)
CERTIFIED = Target(eps=0.05, procedure="fixed-sequence", delta=0.2)


@pytest.fixture(scope="module")
def make_bench(make_trace, make_noisy):
    def build(policies, targets=(TUNED, CERTIFIED), num_prompts=50, **changes):
        top1, prob = make_noisy(np.random.default_rng(3), num_prompts * 10)
        trace = make_trace(top1, prob=prob, prompts=np.repeat(np.arange(num_prompts), 10), **changes)
        return bench_of(trace, policies, ReplayOptions(targets=targets, draws=60))

    return build


def test_a_policy_is_held_as_on_its_own(make_bench):
    """A threshold that depends on which other policies are compared, or targets in another order."""
    policies = [TopProbability(), Margin()]
    bench = make_bench(policies)
    held = hold(bench, policies[0])
    alone = cross_fit(
        bench.material, policies[0], bench.folds, rule=rule_for([TUNED, CERTIFIED]), columns=bench.costs.of
    )
    assert (held.name, held.probes, len(held.outcomes)) == ("top1-prob", "every", 2)
    for got, expected in zip(held.outcomes, alone, strict=True):
        np.testing.assert_array_equal(got.exit_depth, expected.exit_depth)
        np.testing.assert_array_equal(got.values, expected.values)


def test_chance_of_a_wrong_promise_is_shared(make_bench):
    """The best of five certificates at delta 0.1 sold as one at delta 0.1."""
    bench = make_bench([TopProbability()] * 5)
    assert [target.delta for target in bench.stricter] == pytest.approx([0.02, 0.04])
    assert bench.targets == (TUNED, CERTIFIED)


def test_too_few_prompts_are_said_and_the_rest_is_measured(make_bench):
    """One target that cannot be promised that takes the others with it."""
    bench = make_bench([Gate()], targets=(Target(eps=0.01, procedure="fixed-sequence"), TUNED))
    certified, tuned = hold(bench, Gate()).outcomes
    assert "needs at least 230 calibration prompts, got 30" in certified
    assert tuned.exit_depth.shape == (500,)


def test_best_is_chosen_inside_the_folds(make_bench):
    """A winner picked by the tokens it is judged on."""
    policies = [TopProbability(), FixedDepth()]
    bench = make_bench(policies, targets=(TUNED,))
    held = [hold(bench, policy) for policy in policies]
    (outcome,) = best(bench, held, column="bytes_deferred").outcomes
    fits = [policy.as_one_of_many[0] for policy in held]
    expected = best_of(fits, bench.material, bench.folds, column=2)
    np.testing.assert_array_equal(outcome.exit_depth, expected.exit_depth)
    # Chosen on calibration prompts alone: changing what held-out tokens are worth changes no choice.
    assert (outcome.calibrated[:, 2] >= 0).all()
    assert (outcome.calibrated[:, 2] >= np.stack([fit.calibrated[:, 2] for fit in fits]).max(axis=0) - 1e-12).all()


def test_best_of_those_that_can_promise(make_bench):
    """A fitted policy without enough prompts that takes the best one down with it; or a best one of none."""
    plain, gate = TopProbability(), Gate()
    bench = make_bench([plain, gate], targets=(Target(eps=0.08, procedure="fixed-sequence", delta=0.2),))
    held = [hold(bench, policy) for policy in (plain, gate)]
    assert not isinstance(held[0].as_one_of_many[0], str)
    assert not isinstance(best(bench, held, column="blocks").outcomes[0], str)
    few = make_bench([plain], targets=(Target(eps=0.001, procedure="fixed-sequence"),))
    assert "needs at least" in best(few, [hold(few, plain)], column="blocks").outcomes[0]


def test_ready_policies_have_one_threshold_for_all_prompts(make_bench):
    """A policy handed out with a fold's threshold, or for a target that cannot be promised."""
    bench = make_bench([TopProbability()], targets=(TUNED, Target(eps=0.001, procedure="fixed-sequence")))
    tuned, certified = ready(bench, TopProbability())
    assert certified is None
    assert isinstance(tuned, TopProbability)
    met = 1 - bench.material.agrees_at(tuned.exits(_seen(bench, tuned))).mean()
    assert 0 < met <= 0.05


def _seen(bench, policy):
    from exitbench.replay.look import look

    return look(bench.material.trace, policy)
