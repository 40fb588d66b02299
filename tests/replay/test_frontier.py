"""Savings against disagreement along the thresholds."""

import json

import numpy as np
import pytest

from exitbench.policies.confidence import Margin, TopProbability
from exitbench.policies.grids import PROBABILITIES
from exitbench.policies.schedule import Schedule
from exitbench.policies.static import FixedDepth
from exitbench.policies.trained import Gate
from exitbench.replay.frontier import Frontier, frontier


def test_fixed_depth_by_hand(make_trace, make_material):
    """Savings and disagreement exchanged, or at other thresholds than the axis says."""
    top1 = [[0, 3, 3, 3], [0, 1, 3, 3], [0, 1, 2, 3], [3, 3, 1, 3]] * 5
    material = make_material(make_trace(top1, block_costs=[0.5, 0.2, 0.3]))
    got = frontier(material, FixedDepth())
    assert got.savings.axis == got.disagreement.axis == "threshold"
    assert got.savings.at == got.disagreement.at == [1, 2]
    assert got.savings.value == pytest.approx([0.5, 0.3])
    assert got.disagreement.value == pytest.approx([0.5, 0.5])
    assert got.savings.low == pytest.approx([0.5, 0.3])
    assert got.disagreement.low[0] < 0.5 < got.disagreement.high[0]


@pytest.mark.parametrize("schedule", [Schedule(), Schedule(every=3)])
def test_equals_leaving_at_each_threshold(schedule, typical_trace, make_material):
    """A curve of another policy, or of other probes."""
    material = make_material(typical_trace)
    policy = Margin(schedule=schedule)
    got = frontier(material, policy)
    assert got.savings.at == PROBABILITIES.tolist()
    margin, depths = typical_trace.signals["margin"].astype(float), schedule.at(6)
    for g in range(0, len(PROBABILITIES), 20):
        left = [next((d for d in depths if row[d] >= PROBABILITIES[g]), 6) for row in margin]
        assert got.savings.value[g] == pytest.approx(material.rho[left].mean())
        assert got.disagreement.value[g] == pytest.approx(np.mean(~material.agrees_at(np.array(left))))


def test_a_policy_that_has_to_be_fitted_first(typical_trace, make_material):
    """A frontier of zeros from probe depths that were never chosen."""
    for policy in (Gate(), TopProbability(schedule=Schedule(learned=2))):
        with pytest.raises(AssertionError, match="has to be fitted first"):
            frontier(make_material(typical_trace), policy)


def test_survives_json(typical_trace, make_material):
    """An axis lost on the way through a file."""
    got = frontier(make_material(typical_trace), TopProbability())
    assert Frontier.model_validate(json.loads(got.model_dump_json())) == got
