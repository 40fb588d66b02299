"""Operating points: every column against the exits it is made from, and comparisons over the same tokens."""

import numpy as np
import pytest

from exitbench.policies.confidence import Margin, TopProbability
from exitbench.policies.schedule import Schedule
from exitbench.policies.static import FixedDepth
from exitbench.replay.assemble import ReplayOptions, bench_of
from exitbench.replay.hold import hold
from exitbench.replay.points import BATCH_SIZES, operating_points
from exitbench.replay.targets import Target
from exitbench.stats.compare import bootstrap_p, holm

NUM_PROMPTS, TOKENS = 20, 10
TARGETS = (Target(eps=0.1), Target(eps=0.01, procedure="fixed-sequence"))
POLICIES = (TopProbability(), Margin(), Margin(schedule=Schedule(every=2)), FixedDepth())


@pytest.fixture(scope="module")
def compared(make_trace, make_noisy):
    """A bench, its policies as held, and their points by policy and probes, at the tuned and the certified target."""
    top1, prob = make_noisy(np.random.default_rng(5), NUM_PROMPTS * TOKENS)
    margin = prob * np.random.default_rng(6).uniform(0.2, 1, size=prob.shape)
    prompts = np.repeat(np.arange(NUM_PROMPTS), TOKENS)
    trace = make_trace(top1, prob=prob, signals={"margin": margin}, prompts=prompts)
    bench = bench_of(trace, POLICIES, ReplayOptions(targets=TARGETS, draws=80))
    held = [hold(bench, policy) for policy in POLICIES]
    best = bench.material.mean(np.full(NUM_PROMPTS * TOKENS, 0.5))
    return bench, held, operating_points(bench, held, plain=held[0], oracles=[best, best])


def of(compared, number, target=0):
    return compared[2][target * len(POLICIES) + number]


def test_rows_are_every_policy_at_every_target(compared):
    """Rows that lost their policy on the way."""
    points = compared[2]
    names = [(p.policy, p.probes) for p in points]
    assert names == [("top1-prob", "every"), ("margin", "every"), ("margin", "every-2"), ("fixed-depth", "every")] * 2
    assert [p.procedure for p in points] == ["bootstrap"] * 4 + ["fixed-sequence"] * 4


def test_columns_are_means_over_the_exits(compared):
    """Columns exchanged, a share of prompts taken for one of tokens, or a net figure without its probes."""
    bench, held, _ = compared
    for number in range(len(POLICIES)):
        point, fit = of(compared, number), held[number].outcomes[0]
        wrong = bench.material.trace.top1_id[np.arange(NUM_PROMPTS * TOKENS), fit.exit_depth] != 0
        assert point.saved_blocks.value == pytest.approx(1 - fit.exit_depth.mean() / 4)
        assert point.disagreement.value == pytest.approx(wrong.mean())
        assert point.answers_changed.value == pytest.approx(wrong.reshape(NUM_PROMPTS, TOKENS).any(axis=1).mean())
        assert point.detectability.value == pytest.approx(point.saved_blocks.value / 0.5)
        assert point.exit_depth_mean.value == pytest.approx(fit.exit_depth.mean())
        assert point.net_flops_copy.value == pytest.approx(fit.values[:, 1].mean())
        assert point.net_bytes_deferred.value == pytest.approx(fit.values[:, 2].mean())
        assert point.net_time_deferred is None
        assert "--profile" in point.reasons["net_time_deferred"]
        assert point.thresholds == [policy.threshold for policy in fit.policies]


def test_savings_can_be_negative_net(make_trace):
    """A loss cut off at 0: probes that never let a token go are paid all the same."""
    undecided = np.tile([1, 2, 3, 4, 5], (NUM_PROMPTS * TOKENS, 1))
    prompts = np.repeat(np.arange(NUM_PROMPTS), TOKENS)
    trace = make_trace(undecided, prob=np.full(undecided.shape, 0.5), prompts=prompts)
    bench = bench_of(trace, POLICIES[:1], ReplayOptions(targets=TARGETS[:1], draws=80))
    held = hold(bench, POLICIES[0])
    nothing = bench.material.mean(np.zeros(NUM_PROMPTS * TOKENS))
    (point,) = operating_points(bench, [held], plain=held, oracles=[nothing])
    assert None not in point.thresholds
    assert point.saved_blocks.value == 0
    assert point.net_flops_copy.value < 0
    assert point.net_bytes_deferred.value < 0
    assert point.detectability is None
    assert point.reasons["detectability"] == "the oracle saves nothing"


def test_no_detectability_beside_an_oracle_of_another_risk(make_trace):
    """More than 100 % detected: answers may change within the risk by more tokens than the oracle may."""
    prompts = np.repeat(np.arange(NUM_PROMPTS), TOKENS)
    trace = make_trace(np.ones((NUM_PROMPTS * TOKENS, 5), dtype=int), prompts=prompts)
    target = Target(eps=0.2, procedure="conformal", risk="answer")
    bench = bench_of(trace, [TopProbability()], ReplayOptions(targets=(target,), draws=20))
    held = hold(bench, TopProbability())
    oracle = bench.material.mean(np.full(NUM_PROMPTS * TOKENS, 0.5))
    (point,) = operating_points(bench, [held], plain=held, oracles=[oracle])
    assert point.saved_blocks is not None
    assert point.detectability is None
    assert "the risk here is of the answer" in point.reasons["detectability"]


def test_batch_curve_is_lockstep(compared):
    """Rows that wait for the luckiest one."""
    point, depth = of(compared, 0), compared[1][0].outcomes[0].exit_depth
    assert point.batch.at == list(BATCH_SIZES)
    assert point.batch.value[0] == pytest.approx(point.saved_blocks.value)
    left = np.array([(depth <= d).mean() for d in range(4)])
    assert point.batch.value[1] == pytest.approx((left**4).mean())


def test_differences_are_paired_and_adjusted(compared):
    """Two independent intervals compared, the plain policy against itself, or p-values of as many tests unadjusted."""
    bench, held, _ = compared
    plain = held[0].outcomes[0].values[:, 0]
    differences = [bench.material.mean(policy.outcomes[0].values[:, 0] - plain) for policy in held[1:]]
    expected = holm([bootstrap_p(difference.resamples) for difference in differences])
    for number, (difference, p) in enumerate(zip(differences, expected, strict=True), start=1):
        point = of(compared, number)
        assert point.over_plain.value == pytest.approx(float(difference.value))
        assert point.over_plain_p == pytest.approx(p)
    assert of(compared, 0).over_plain is None
    assert of(compared, 0).reasons["over_plain_p"] == "it is what the others are compared with"


def test_certificates_without_prompts_have_reasons_only(compared):
    """A row of zeros where nothing could be promised."""
    point = of(compared, 1, target=1)
    assert point.saved_blocks is point.batch is point.thresholds is None
    for name in ("saved_blocks", "net_bytes_deferred", "over_plain", "probe_depths", "batch"):
        assert "needs at least 230 calibration prompts, got 16" in point.reasons[name], name


def test_promises_have_a_delta_and_tuning_has_none(compared):
    """A chance of a wrong promise printed where nothing is promised."""
    assert of(compared, 0).delta is None
    assert of(compared, 0, target=1).delta == 0.1


def test_probe_depths_are_those_looked_at(compared):
    """Probes of a policy that looks at nothing, or those of another schedule."""
    assert of(compared, 0).probe_depths == [[1, 2, 3]] * 5
    assert of(compared, 2).probe_depths == [[2]] * 5
    assert of(compared, 3).probe_depths == [[]] * 5
