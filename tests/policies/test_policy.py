"""What all policies share: what they may look at, exits, one at a time and all at once, and what is refused."""

from typing import ClassVar

import numpy as np
import pydantic
import pytest

from exitbench.errors import ExitbenchError
from exitbench.policies.agreement import Patience
from exitbench.policies.confidence import Entropy, TopProbability
from exitbench.policies.policy import Calibration, ExitPolicy
from exitbench.policies.schedule import Schedule
from exitbench.policies.static import FixedDepth
from exitbench.policies.trained import Gate
from watching import seen_of

PROB = [[0.25, 0.5, 0.75], [0.75, 0.25, 0.5], [0.0, float("nan"), 0.25]]


def calibration(*, num_blocks=4, decided, rho, probe_cost):
    seen = seen_of(depths=[], num_blocks=num_blocks, num_tokens=2)
    agrees = np.zeros((2, 0), dtype=bool)
    return Calibration(seen=seen, agrees=agrees, decided=decided, rho=rho, probe_cost=probe_cost, weights_sha256="0")


def test_seen_up_to():
    """A later probe left in sight, or a token dropped with it."""
    part = seen_of(top1_prob=PROB, top1_id=np.arange(9).reshape(3, 3)).up_to(2)
    assert part.depths.tolist() == [1, 2]
    assert part.num_blocks == 4
    assert part.signals["top1_prob"].shape == part.signals["top1_id"].shape == (3, 2)


@pytest.mark.parametrize("keep", [[2, 0], np.array([True, False, True])])
def test_seen_rows(keep):
    """Positions of other tokens than the signals."""
    part = seen_of(top1_prob=PROB, position=[5, 6, 7]).rows(np.asarray(keep))
    order = np.arange(3)[np.asarray(keep)]
    assert part.answer_position.tolist() == (order + 5).tolist()
    np.testing.assert_array_equal(part.signals["top1_prob"], np.asarray(PROB, dtype=np.float32)[order])


def test_leaves_is_one_step_of_exits():
    """An exit decided by an earlier probe, where the present one must decide; NaN that leaves."""
    policy, seen = TopProbability(threshold=0.5), seen_of(top1_prob=PROB)
    assert [policy.leaves(seen.up_to(count)).tolist() for count in range(4)] == [
        *([False] * 3, [False, True, False], [True, False, False]),
        [True, True, False],
    ]
    assert policy.exits(seen).tolist() == [2, 1, 4]


def test_no_threshold_never_leaves():
    """None taken for 0, the loosest threshold of all; scores asked for that are not needed."""
    seen = seen_of(top1_prob=PROB)
    for policy in (TopProbability(), Gate()):
        assert policy.exits(seen).tolist() == [4, 4, 4]
        assert not policy.leaves(seen).any()


def test_no_probes_never_leaves():
    """An index error in a model of one block."""
    seen = seen_of(top1_prob=np.empty((2, 0)), num_blocks=1)
    assert TopProbability(threshold=0).exits(seen).tolist() == [1, 1]
    assert TopProbability(threshold=0).leaves(seen).tolist() == [False, False]


def test_no_tokens():
    """A crash on a batch in which every token has left."""
    seen = seen_of(top1_prob=np.empty((0, 3)))
    assert TopProbability(threshold=0).exits(seen).shape == (0,)
    assert TopProbability(threshold=0).leaves(seen).shape == (0,)


def test_frozen_and_strict():
    """A policy changed in the middle of a sweep; a mistyped setting ignored."""
    policy = TopProbability(threshold=0.5)
    with pytest.raises(pydantic.ValidationError):
        policy.threshold = 0.9
    with pytest.raises(pydantic.ValidationError):
        TopProbability(treshold=0.5)
    for value in (float("nan"), float("inf")):
        with pytest.raises(pydantic.ValidationError):
            TopProbability(threshold=value)


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (TopProbability(threshold=1.5), "'top1-prob' has threshold 1.5, expected 0 to 1 in a model of 4 blocks"),
        (TopProbability(threshold=-0.1), "'top1-prob' has threshold -0.1, expected 0 to 1"),
        (Entropy(threshold=0.5), "'entropy' has threshold 0.5, expected -20 to 0"),
        (FixedDepth(threshold=4), "'fixed-depth' has threshold 4, expected 1 to 3 in a model of 4 blocks"),
        (Patience(threshold=0), "'patience' has threshold 0, expected 1 to 2"),
    ],
)
def test_thresholds_out_of_range_are_refused(policy, said):
    """An entropy given without its sign, a share in per cent: replayed as "always" or "never"."""
    with pytest.raises(ExitbenchError) as caught:
        policy.checked(4)
    assert said in str(caught.value)
    assert str(caught.value).endswith("; give one in that range, or none to leave no token early")
    assert "\n" not in str(caught.value)


def test_what_makes_sense_is_handed_on():
    """Ends of the range refused; probes behind the last block let through."""
    for threshold in (None, 0, 1):
        policy = TopProbability(threshold=threshold)
        assert policy.checked(4) is policy
    with pytest.raises(ExitbenchError, match="probe depth 9 does not exist"):
        TopProbability(schedule=Schedule(depths=(9,))).checked(4)


def test_learned_probe_depths():
    """Probe depths chosen without their price, or fixed ones replaced."""
    rho = np.array([1, 0.75, 0.5, 0.25, 0])
    decided = np.array([0, 0.5, 0.5, 1.0, 1.0])
    policy = TopProbability(schedule=Schedule(learned=3))
    assert policy.learns
    scheduled = policy.scheduled(calibration(decided=decided, rho=rho, probe_cost=0.1))
    assert scheduled.schedule == Schedule(depths=(1, 3))
    assert not scheduled.learns
    dear = policy.scheduled(calibration(decided=decided, rho=rho, probe_cost=1.0))
    assert dear.schedule == Schedule(depths=(3,))
    fixed = TopProbability(schedule=Schedule(every=2))
    assert fixed.scheduled(calibration(decided=decided, rho=rho, probe_cost=0.1)) is fixed


def test_what_learns():
    """A trained policy replayed unfitted, or a fitted one fitted again."""
    assert not TopProbability().learns
    assert Gate().learns
    assert not Gate(fitted_on="0" * 64).learns
    assert Gate(fitted_on="0" * 64, schedule=Schedule(learned=2)).learns


def test_to_json_is_flat_and_named():
    """A name that settings could overwrite, or settings left out at their defaults."""
    assert TopProbability(threshold=0.5, schedule=Schedule(depths=(1, 3))).to_json() == {
        "policy": "top1-prob",
        "threshold": 0.5,
        "schedule": {"every": 1, "depths": [1, 3], "learned": None},
        "fitted_on": None,
    }


def test_a_policy_of_ones_own():
    """More to be written than a name, the signals, a score and a grid."""

    class MarginAndAgreement(ExitPolicy):
        """Invented."""

        name: ClassVar[str] = "both"
        signals: ClassVar[tuple[str, ...]] = ("margin", "top1_prob")

        def scores(self, seen):
            return np.minimum(seen.signals["margin"], seen.signals["top1_prob"]).astype(np.float64)

        @classmethod
        def grid(cls, num_blocks):
            return np.linspace(0, 1, 11)

    seen = seen_of(margin=[[0.5, 1]], top1_prob=[[0.25, 1]])
    assert MarginAndAgreement(threshold=0.5).exits(seen).tolist() == [2]
