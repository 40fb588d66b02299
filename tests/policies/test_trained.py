"""Policies that are fitted: against scikit-learn's own predictions, and what they refuse."""

import json

import numpy as np
import pydantic
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from exitbench.errors import ExitbenchError
from exitbench.policies.policy import Calibration
from exitbench.policies.trained import Gate, PerDepthThresholds
from watching import seen_of

RNG = np.random.default_rng(3)
PROB = RNG.beta(2, 1, size=(300, 3)).astype(np.float32)
AGREES = RNG.random((300, 3)) < PROB * [0.5, 0.8, 1]
BOTH = (Gate, PerDepthThresholds)


def calibration_of(agrees, *, depths=None, **signals):
    seen = seen_of(depths=depths, **signals)
    even = np.linspace(0, 1, seen.num_blocks + 1)
    return Calibration(seen=seen, agrees=agrees, decided=even, rho=1 - even, probe_cost=0, weights_sha256="f" * 64)


def fitted(kind, agrees=AGREES, prob=PROB, depths=None):
    return kind().fitted(calibration_of(agrees, depths=depths, top1_prob=prob, margin=prob / 2))


def test_per_depth_is_the_isotonic_regression_of_each_depth():
    """One curve for all depths, columns exchanged, or probabilities beyond those of calibration extrapolated."""
    policy = fitted(PerDepthThresholds)
    other = np.concatenate([RNG.random((50, 3)), [[0, 0, 0], [1, 1, 1]]]).astype(np.float32)
    got = policy.scores(seen_of(top1_prob=other))
    for k in range(3):
        reference = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(
            PROB[:, k].astype(float), AGREES[:, k]
        )
        np.testing.assert_allclose(got[:, k], reference.predict(other[:, k].astype(float)), atol=1e-12)
    assert policy.fitted_at == (1, 2, 3)
    assert policy.fitted_on == "f" * 64


def test_per_depth_by_hand():
    """A regression of probability on agreement, or averages that let a higher probability mean less."""
    prob = np.array([[0.25], [0.5], [0.5], [0.75], [1.0]])
    policy = fitted(PerDepthThresholds, np.array([[0], [1], [1], [0], [1]], dtype=bool), prob)
    # 0, then (1 + 1 + 0) / 3 pooled over 0.5 and 0.75, then 1; straight lines between.
    np.testing.assert_allclose(
        policy.scores(seen_of(top1_prob=[[0.25], [0.375], [0.6], [1.0]])).ravel(), [0, 1 / 3, 2 / 3, 1]
    )


def test_gate_is_the_logistic_regression_of_each_depth():
    """Weights and features in different orders, the constant among the weights, or a change counted backwards."""
    policy = fitted(Gate)
    got = policy.scores(seen_of(top1_prob=PROB, margin=PROB / 2))
    prob = PROB.astype(float)
    change = np.concatenate([np.zeros((300, 1)), prob[:, 1:] - prob[:, :-1]], axis=1)
    for k in range(3):
        features = np.stack([prob[:, k] / 2, prob[:, k], change[:, k] / 2, change[:, k]], axis=1)
        reference = LogisticRegression(max_iter=500).fit(features, AGREES[:, k])
        np.testing.assert_allclose(got[:, k], reference.predict_proba(features)[:, 1], atol=1e-9)


@pytest.mark.parametrize(
    ("agrees", "chance"), [(np.ones((9, 1), dtype=bool), 0.95), (np.zeros((9, 1), dtype=bool), 0.05)]
)
def test_gate_where_all_tokens_are_alike(agrees, chance):
    """scikit-learn's refusal of one class, or a certainty of 0 or 1 from nine tokens."""
    policy = fitted(Gate, agrees, PROB[:9, :1])
    np.testing.assert_allclose(policy.scores(seen_of(top1_prob=PROB[:, :1], margin=PROB[:, :1])), chance)


def test_gate_learns_which_depths_can_be_trusted():
    """One gate for all depths, which a shallow depth that is certain and wrong would fool."""
    prob = np.tile(RNG.random((400, 1)), (1, 2)).astype(np.float32)
    agrees = np.stack([prob[:, 0] < 0.5, prob[:, 0] > 0.5], axis=1)
    policy = fitted(Gate, agrees, prob)
    got = policy.scores(seen_of(top1_prob=prob, margin=prob / 2))
    assert np.corrcoef(got[:, 0], prob[:, 0])[0, 1] < -0.9
    assert np.corrcoef(got[:, 1], prob[:, 1])[0, 1] > 0.9


@pytest.mark.parametrize("kind", BOTH)
def test_survives_json(kind):
    """Numbers rounded on the way through a file."""
    policy = fitted(kind).model_copy(update={"threshold": 0.9})
    data = json.loads(json.dumps(policy.to_json(), allow_nan=False))
    again = kind.model_validate({name: value for name, value in data.items() if name != "policy"})
    assert again == policy
    seen = seen_of(top1_prob=PROB, margin=PROB / 2)
    np.testing.assert_array_equal(again.scores(seen), policy.scores(seen))
    assert not again.learns


@pytest.mark.parametrize("kind", BOTH)
def test_uses_the_fit_of_the_depth_it_is_asked_at(kind):
    """Fits taken by place in place of depth, when fewer probes have been made or are wanted."""
    policy = fitted(kind, depths=[2, 4, 7])
    seen = seen_of(depths=[2, 4, 7], top1_prob=PROB, margin=PROB / 2)
    np.testing.assert_array_equal(policy.scores(seen.up_to(2)), policy.scores(seen)[:, :2])
    same = np.repeat(PROB[:, :1], 2, axis=1)
    late = policy.scores(seen_of(depths=[4, 7], top1_prob=same, margin=same / 2))
    all_three = np.repeat(PROB[:, :1], 3, axis=1)
    np.testing.assert_allclose(
        late, policy.scores(seen_of(depths=[2, 4, 7], top1_prob=all_three, margin=all_three / 2))[:, 1:]
    )


@pytest.mark.parametrize("kind", BOTH)
def test_depths_it_was_not_fitted_at_are_refused(kind):
    """A score from the fit of another depth, or an index error."""
    seen = seen_of(depths=[1, 2], top1_prob=PROB[:, :2], margin=PROB[:, :2])
    with pytest.raises(
        ExitbenchError, match=rf"policy '{kind.name}' was fitted at depths none, not at 1, 2; fit it with"
    ):
        kind(threshold=0.5).exits(seen)
    with pytest.raises(ExitbenchError, match=r"was fitted at depths 2, 4, 7, not at 1; "):
        fitted(kind, depths=[2, 4, 7]).scores(seen)


@pytest.mark.parametrize("kind", BOTH)
def test_without_probes(kind):
    """A model of one block, or learned probe depths of which none pays: a crash in place of no exits."""
    nothing = np.empty((5, 0))
    policy = fitted(kind, np.empty((5, 0), dtype=bool), nothing)
    assert not policy.learns
    seen = seen_of(num_blocks=4, top1_prob=nothing, margin=nothing)
    assert policy.scores(seen).shape == (5, 0)
    assert policy.model_copy(update={"threshold": 0.5}).exits(seen).tolist() == [4] * 5


@pytest.mark.parametrize("kind", BOTH)
def test_undefined_signals_cannot_leave(kind):
    """A NaN that becomes a chance."""
    prob = PROB[:2].copy()
    prob[0, 1] = np.nan
    got = fitted(kind).scores(seen_of(top1_prob=prob, margin=prob / 2))
    assert np.isnan(got[0, 1])
    assert np.isfinite(got[1]).all()


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Gate, {"fitted_at": [1, 2], "weights": [[0, 0, 0, 0, 1]]}),
        (Gate, {"fitted_at": [1], "weights": [[0, 0, 1]]}),
        (Gate, {"fitted_at": [2, 1], "weights": [[0, 0, 0, 0, 1]] * 2}),
        (PerDepthThresholds, {"fitted_at": [1]}),
        (PerDepthThresholds, {"fitted_at": [1], "knots": [[]]}),
        (PerDepthThresholds, {"fitted_at": [1], "knots": [[[0.5, 0.1], [0.25, 0.2]]]}),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(kind, fields):
    """A file edited by hand that still gives scores."""
    with pytest.raises(pydantic.ValidationError):
        kind(**fields)
