"""Exits that look into the future."""

import pytest

from exitbench.policies.builtin import ORACLES, POLICIES
from exitbench.policies.oracle import FirstMatch, Stable
from exitbench.policies.policy import ExitPolicy


def test_first_match_and_stable_by_hand(make_trace):
    """The two exchanged; a depth 0 that agrees passed over."""
    trace = make_trace([[3, 1, 3, 3], [1, 3, 2, 3], [3, 3, 3, 3], [0, 1, 2, 3]])
    assert FirstMatch().exits(trace).tolist() == [0, 1, 0, 3]
    assert Stable().exits(trace).tolist() == [2, 3, 0, 3]


@pytest.mark.parametrize("oracle", ORACLES)
def test_an_oracle_is_no_policy(oracle):
    """A bound run as if it were a method: only its type keeps it from decoding."""
    assert not issubclass(oracle, ExitPolicy)
    assert oracle.name not in POLICIES
    assert oracle.name.startswith("oracle-")
