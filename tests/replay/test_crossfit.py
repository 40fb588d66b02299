"""Thresholds chosen on some prompts and met on others: against slow references, and whether the promise is kept."""

import dataclasses

import numpy as np
import pytest
from hypothesis import settings

from exitbench.policies.builtin import POLICIES
from exitbench.policies.confidence import Entropy, Margin, TopProbability
from exitbench.policies.grids import PROBABILITIES
from exitbench.policies.schedule import Schedule
from exitbench.policies.static import FixedDepth
from exitbench.policies.trained import Gate
from exitbench.replay.crossfit import CrossFit, best_of, bootstrap_rule, cross_fit, loosest_threshold
from exitbench.replay.folds import NUM_FOLDS, Folds, deal_folds
from exitbench.stats.bootstrap import Prompts, draw_weights
from exitbench.trace.decided import remaining_costs
from exitbench.trace.decision import decision_depths


def test_the_scan_stops_at_the_first_failure():
    """Keeping a loose threshold that passes by luck beyond one that failed."""
    loose_to_strict = np.array([0.0, 0.5, 0.02, 0.008, 0.0])
    assert [loosest_threshold(loose_to_strict, eps) for eps in (0.01, 0.05, 0.6)] == [3, 2, 0]
    assert loosest_threshold(np.array([0.0, 0.3]), 0.01) is None


def test_a_bound_at_exactly_eps_is_kept():
    """Strict and non-strict comparison mixed up: zero disagreements never allowed at eps = 0."""
    assert loosest_threshold(np.zeros(3), 0.0) == 0


@settings(deadline=None)
def folds_of(material, *, draws=60, seed=9):
    return Folds(material.prompts, draws=draws, seed=np.random.SeedSequence(seed))


def held_to(*eps):
    return lambda totals, part: [bootstrap_rule(totals, part, bound) for bound in eps]


def fit(material, policy, *, eps=(0.05,), draws=60, seed=9, rule=None, **options):
    rho = material.rho[:, None]
    folds = folds_of(material, draws=draws, seed=seed)
    return cross_fit(material, policy, folds, rule=rule or held_to(*eps), columns=lambda _: rho, **options)


@pytest.mark.parametrize("learns", [False, True])
def test_parts_share_no_prompt(learns):
    """A prompt that fits, calibrates and judges; a prompt that does none of these; resamples of other prompts."""
    prompts = Prompts(row_prompt=np.arange(23), categories=("a", "b") * 11 + ("a",))
    folds = Folds(prompts, draws=7, seed=np.random.SeedSequence(1))
    parts = folds.parts(learns=learns)
    assert len(parts) == NUM_FOLDS
    np.testing.assert_array_equal(sum(part.held_out for part in parts), 1)
    np.testing.assert_array_equal(sum(part.fit for part in parts), int(learns))
    for fold, part in enumerate(parts):
        np.testing.assert_array_equal(part.held_out.astype(int) + part.fit + part.calibrate, 1)
        np.testing.assert_array_equal(part.held_out, folds.fold == fold)
        assert part.weights.shape == (7, part.calibrate.sum())
        np.testing.assert_array_equal(part.weights.sum(axis=1), part.calibrate.sum())


def test_too_few_prompts_for_folds():
    """A fold without prompts, judged by nobody."""
    with pytest.raises(AssertionError, match="4 prompts cannot be dealt into 5 folds"):
        Folds(Prompts(row_prompt=np.arange(4), categories=("a",) * 4), draws=5, seed=np.random.SeedSequence(0))


def exit_depth(prob_row, threshold):
    """The plain threshold, token by token."""
    num_blocks = len(prob_row) - 1
    for depth in range(1, num_blocks):
        if prob_row[depth] >= threshold:
            return depth
    return num_blocks


def slow_cross_fit(top1_id, prob, prompts, *, draws, eps, seed):
    """Cross-fitting written out: same folds and resamples, everything else by loops."""
    rng = np.random.default_rng(seed)
    folds = deal_folds(prompts.categories, rng)
    depths, chosen = np.empty(len(prob), dtype=int), []
    for fold in range(NUM_FOLDS):
        others = [p for p in range(prompts.num_prompts) if folds[p] != fold]
        weights = draw_weights([prompts.categories[p] for p in others], draws=draws, rng=rng)
        best = None
        for threshold in PROBABILITIES[::-1]:
            left = np.array([exit_depth(row, threshold) for row in prob])
            missed = top1_id[np.arange(len(left)), left] != top1_id[:, -1]
            by_prompt = [missed[prompts.row_prompt == p].sum() for p in others]
            sizes = [np.sum(prompts.row_prompt == p) for p in others]
            shares = [np.dot(row, by_prompt) / np.dot(row, sizes) for row in weights]
            if np.percentile(shares, 95) > eps:
                break
            best = threshold
        chosen.append(best)
        for row in np.flatnonzero(folds[prompts.row_prompt] == fold):
            depths[row] = prob.shape[1] - 1 if best is None else exit_depth(prob[row], best)
    return depths, chosen


@pytest.mark.parametrize("eps", [0.02, 0.2])
def test_cross_fitting_equals_the_slow_reference(eps, make_trace, make_material, make_noisy):
    """A threshold chosen with a look at the held-out fold; tokens handed back in another order."""
    rng = np.random.default_rng(2)
    sizes = rng.integers(1, 9, size=14)
    top1_id, prob = make_noisy(rng, sizes.sum())
    costs = (0.4, 0.3, 0.2, 0.1)
    trace = make_trace(
        top1_id, prob=prob, prompts=np.repeat(np.arange(14), sizes), categories=("a", "b") * 7, block_costs=costs
    )
    material = make_material(trace)
    (got,) = fit(material, TopProbability(), eps=(eps,))
    depths, chosen = slow_cross_fit(
        top1_id,
        trace.signals["top1_prob"].astype(float),
        material.prompts,
        draws=60,
        eps=eps,
        seed=np.random.SeedSequence(9),
    )
    assert [policy.threshold for policy in got.policies] == chosen
    np.testing.assert_array_equal(got.exit_depth, depths)
    np.testing.assert_allclose(got.values[:, 0], remaining_costs(costs)[depths])


def test_the_promise_is_kept_on_average(make_trace, make_material, make_noisy):
    """A bound taken from the wrong tail: half of all runs would then exceed eps."""
    rng = np.random.default_rng(4)
    met, saved = [], []
    for run in range(40):
        top1_id, prob = make_noisy(rng, 60 * 40)
        material = make_material(make_trace(top1_id, prob=prob, prompts=np.repeat(np.arange(60), 40)), draws=1)
        (got,) = fit(material, TopProbability(), draws=150, seed=run)
        met.append(float(np.mean(~material.agrees_at(got.exit_depth))))
        saved.append(float(got.values.mean()))
    assert np.mean(saved) > 0.1
    assert 0.02 < np.mean(met) <= 0.05
    assert np.mean(np.asarray(met) > 0.05) <= 0.2


@pytest.mark.parametrize("policy", [TopProbability(), Gate()], ids=["plain", "trained"])
def test_no_threshold_qualifies_is_a_real_zero(policy, make_trace, make_material):
    """A confident and always wrong model: never leave, which saves exactly 0 and disagrees exactly 0."""
    signals = {"margin": np.ones((40, 3))}
    trace = make_trace([[1, 1, 0]] * 40, prob=np.ones((40, 3)), signals=signals, prompts=np.repeat(np.arange(20), 2))
    material = make_material(trace)
    (got,) = fit(material, policy, eps=(0.01,), rule=lambda totals, part: [None])
    plain, *_ = fit(material, TopProbability(), eps=(0.01,))
    for result in (got, plain):
        assert [policy.threshold for policy in result.policies] == [None] * NUM_FOLDS
        assert result.exit_depth.tolist() == [2] * 40
        assert not result.values.any()
        assert not result.calibrated.any()
        assert material.agrees_at(result.exit_depth).all()


def test_one_outcome_for_each_eps(make_trace, make_material, make_noisy):
    """Outcomes of another eps under its name."""
    top1_id, prob = make_noisy(np.random.default_rng(0), 400)
    material = make_material(make_trace(top1_id, prob=prob, prompts=np.repeat(np.arange(20), 20)))
    together = fit(material, TopProbability(), eps=(0.001, 0.02, 0.3))
    assert len(together) == 3
    for eps, got in zip((0.001, 0.02, 0.3), together, strict=True):
        (alone,) = fit(material, TopProbability(), eps=(eps,))
        np.testing.assert_array_equal(got.exit_depth, alone.exit_depth)
        assert got.policies == alone.policies
    assert together[0].values.mean() < together[1].values.mean() < together[2].values.mean()


def test_columns_are_of_the_policy_and_of_the_exit(make_trace, make_material, make_noisy):
    """Costs of another policy's probes; means of calibration over all tokens, or of the held-out ones."""
    top1_id, prob = make_noisy(np.random.default_rng(1), 300)
    material = make_material(make_trace(top1_id, prob=prob, prompts=np.repeat(np.arange(15), 20)))
    asked = []

    def columns(policy):
        asked.append(policy)
        return np.stack([material.rho, np.arange(5.0)], axis=1)

    folds = folds_of(material)
    policy = Margin(schedule=Schedule(every=2))
    (got,) = cross_fit(material, policy, folds, rule=held_to(0.2), columns=columns)
    assert asked == [policy]
    np.testing.assert_array_equal(got.values[:, 1], got.exit_depth)
    np.testing.assert_array_equal(got.values[:, 0], material.rho[got.exit_depth])
    assert got.calibrated.shape == (NUM_FOLDS, 2)
    margin = material.signal("margin")[:, 2]
    for fold, calibrated in enumerate(got.policies):
        rows = (folds.fold != fold)[material.prompts.row_prompt]
        leaves = margin[rows] >= calibrated.threshold
        np.testing.assert_allclose(got.calibrated[fold, 1], np.where(leaves, 2, 4).mean())


def test_the_rule_sees_calibration_prompts_alone(make_trace, make_material, make_noisy):
    """Totals of held-out prompts, or of those that a policy was fitted on, given to the rule."""
    top1_id, prob = make_noisy(np.random.default_rng(1), 240)
    prompts = np.repeat(np.arange(12), np.arange(12) % 3 * 10 + 10)
    material = make_material(make_trace(top1_id[: len(prompts)], prob=prob[: len(prompts)], prompts=prompts))
    for policy, share in ((TopProbability(), 4), (Gate(), 3)):
        met = []

        def rule(totals, part, met=met):
            np.testing.assert_array_equal(totals.tokens, material.prompts.counts()[part.calibrate])
            met.append(part.calibrate)
            return [bootstrap_rule(totals, part, 0.05)]

        fit(material, policy, rule=rule)
        assert len(met) == NUM_FOLDS
        np.testing.assert_array_equal(np.sum(met, axis=0), share)


def scrambled(trace, rows, seed):
    """The trace with other signals, and other agreement, at some rows; their final ids stay."""
    rng = np.random.default_rng(seed)
    signals = {name: values.copy() for name, values in trace.signals.items()}
    shape = (int(rows.sum()), trace.num_blocks)
    signals["top1_id"][rows, :-1] = np.where(rng.random(shape) < 0.5, signals["top1_id"][rows, -1:], 99)
    signals["top1_prob"][rows, :-1] = rng.random(shape)
    signals["margin"][rows, :-1] = rng.random(shape)
    return dataclasses.replace(trace, signals=signals, decision_depth=decision_depths(signals["top1_id"]))


LEARNERS = (TopProbability(), Gate(), POLICIES.get("per-depth")(), TopProbability(schedule=Schedule(learned=2)))


@pytest.mark.parametrize("policy", LEARNERS, ids=["plain", "gate", "per-depth", "learned probes"])
def test_the_held_out_fold_does_not_leak(policy, make_trace, make_material, make_noisy):
    """A fit, a threshold or a choice of probes that has seen the prompts it is judged on.

    What is recorded of one fold is replaced: the policy that judges it may not change. What it was calibrated on, or
    fitted on, is replaced: it must.
    """
    rng = np.random.default_rng(6)
    top1_id, prob = make_noisy(rng, 600)
    trace = make_trace(top1_id, prob=prob, signals={"margin": prob * 0.9}, prompts=np.repeat(np.arange(20), 30))
    material = make_material(trace)
    (before,) = fit(material, policy, eps=(0.15,), probe_cost=0.05)
    for fold, part in enumerate(folds_of(material).parts(learns=policy.learns)):
        for mask, changes in ((part.held_out, False), (part.calibrate, True), (part.fit, True)):
            if not mask.any():
                continue
            other = make_material(scrambled(trace, mask[material.prompts.row_prompt], seed=fold))
            (after,) = fit(other, policy, eps=(0.15,), probe_cost=0.05)
            assert (after.policies[fold] != before.policies[fold]) == changes, (fold, changes)


def test_trained_policies_are_fitted_once_a_fold(make_trace, make_material, make_noisy):
    """One fit shared by all folds; or fitted where the threshold is chosen."""
    top1_id, prob = make_noisy(np.random.default_rng(6), 600)
    trace = make_trace(top1_id, prob=prob, signals={"margin": prob * 0.9}, prompts=np.repeat(np.arange(20), 30))
    material = make_material(trace)
    (got,) = fit(material, Gate(), eps=(0.15,))
    assert len({policy.weights for policy in got.policies}) == NUM_FOLDS
    assert all(policy.fitted_on == trace.manifest.model.weights_sha256 for policy in got.policies)
    assert all(policy.fitted_at == (1, 2, 3) for policy in got.policies)
    assert got.values.mean() > 0


def test_learned_probes_heed_their_price(make_trace, make_material, make_top1):
    """The price of a probe ignored, or asked of gross savings."""
    top1 = make_top1([1, 3] * 100, 4)
    material = make_material(make_trace(top1, prompts=np.repeat(np.arange(20), 10)))
    policy = FixedDepth(schedule=Schedule(learned=3))
    for cost, depths in ((0.0, (1, 3)), (0.2, (1, 3)), (0.6, (3,))):
        (got,) = fit(material, policy, probe_cost=cost)
        assert {fitted.schedule.depths for fitted in got.policies} == {depths}


def test_no_probe_that_pays(make_trace, make_material, make_top1):
    """A crash where learned probe depths are none."""
    material = make_material(make_trace(make_top1([4] * 100, 4), prompts=np.repeat(np.arange(20), 5)))
    for policy in (TopProbability(schedule=Schedule(learned=2)), Gate(schedule=Schedule(learned=2))):
        (got,) = fit(material, policy, probe_cost=0.1)
        assert got.exit_depth.tolist() == [4] * 100
        assert not got.values.any()


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_a_model_of_one_block(name, make_trace, make_material):
    """Indexing below depth L - 1 in a model that has only depth 0 there."""
    policy = POLICIES.get(name)()
    signals = {"kl_prev": np.zeros((40, 2))} if "kl_prev" in policy.signals else {}
    trace = make_trace([[1, 1]] * 20 + [[2, 1]] * 20, prompts=np.repeat(np.arange(20), 2))
    trace = dataclasses.replace(trace, signals=trace.signals | signals)
    (got,) = fit(make_material(trace), policy)
    assert got.exit_depth.tolist() == [1] * 40
    assert not got.values.any()


def result(policies, depth, value, calibrated):
    rows = 10
    return CrossFit(
        exit_depth=np.full(rows, depth, dtype=np.int32),
        values=np.full((rows, 2), value),
        policies=policies,
        calibrated=np.stack([np.zeros(NUM_FOLDS), calibrated], axis=1),
    )


def test_best_of_chooses_for_each_fold(make_trace, make_material):
    """One winner for all folds, the winner on held-out tokens, or another column."""
    material = make_material(make_trace([[1, 1, 1, 1]] * 10))
    folds = folds_of(material)
    first = result((TopProbability(threshold=0.5),) * NUM_FOLDS, 1, 0.9, [0.3, 0.1, -0.1, 0.0, 0.2])
    second = result((Entropy(threshold=-1.0),) * NUM_FOLDS, 2, 0.4, [0.2, 0.2, -0.2, 0.0, 0.2])
    got = best_of([first, second], material, folds, column=1)
    stays = TopProbability()
    assert got.policies == (first.policies[0], second.policies[1], stays, stays, first.policies[4])
    assert got.calibrated[:, 1].tolist() == [0.3, 0.2, 0, 0, 0.2]
    depth_of_fold = np.array([1, 2, 3, 3, 1])
    value_of_fold = np.array([0.9, 0.4, 0, 0, 0.9])
    np.testing.assert_array_equal(got.exit_depth, depth_of_fold[folds.fold])
    np.testing.assert_array_equal(got.values, np.stack([value_of_fold[folds.fold]] * 2, axis=1))


def test_best_of_is_no_worse_in_calibration(make_trace, make_material, make_noisy):
    """Policies mixed up on the way to the folds."""
    top1_id, prob = make_noisy(np.random.default_rng(8), 600)
    trace = make_trace(top1_id, prob=prob, signals={"margin": prob * 0.9}, prompts=np.repeat(np.arange(20), 30))
    material = make_material(trace)
    fits = [fit(material, policy, eps=(0.15,))[0] for policy in (TopProbability(), FixedDepth(), Gate())]
    best = best_of(fits, material, folds_of(material), column=0)
    np.testing.assert_allclose(best.calibrated[:, 0], np.max([one.calibrated[:, 0] for one in fits], axis=0))
    for fold, policy in enumerate(best.policies):
        rows = (folds_of(material).fold == fold)[material.prompts.row_prompt]
        (winner,) = (one for one in fits if one.policies[fold] == policy)
        np.testing.assert_array_equal(best.exit_depth[rows], winner.exit_depth[rows])
