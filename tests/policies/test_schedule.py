"""At which depths a policy looks: reading, writing, and the choice of a few."""

from itertools import combinations

import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitbench.errors import ExitbenchError
from exitbench.policies.schedule import Schedule, best_probes


@pytest.mark.parametrize(
    ("text", "num_blocks", "depths"),
    [
        ("every", 5, [1, 2, 3, 4]),
        ("every", 1, []),
        ("every-2", 7, [2, 4, 6]),
        ("every-2", 6, [2, 4]),
        ("every-9", 5, []),
        ("10,20,25", 30, [10, 20, 25]),
        ("3", 4, [3]),
        ("none", 4, []),
        ("learned-3", 9, []),
    ],
)
def test_depths_of_a_text(text, num_blocks, depths):
    """A probe at depth 0 or at depth L; a text that cannot be read back."""
    schedule = Schedule.parse(text)
    assert schedule.at(num_blocks).tolist() == depths
    assert schedule.at(num_blocks).dtype == np.int64
    assert schedule.text == text
    assert Schedule.model_validate(schedule.model_dump(mode="json")) == schedule


def test_spaces_between_depths():
    """A list as people write it, refused."""
    assert Schedule.parse("1, 3").depths == (1, 3)


@pytest.mark.parametrize(
    "text", ["", "often", "every-0", "every-", "0,2", "3,2", "2,2", "1,,2", "1.5", "-1", "learned", "learned-0"]
)
def test_other_texts_are_refused(text):
    """A typing error that becomes another schedule."""
    with pytest.raises(ExitbenchError, match=r"^--probes is .*, expected 'every', .* or 'none'$"):
        Schedule.parse(text)


@pytest.mark.parametrize(
    "fields", [{"depths": (0, 1)}, {"depths": (2, 2)}, {"every": 0}, {"learned": 0}, {"depths": (1,), "learned": 1}]
)
def test_contradictions_are_refused(fields):
    """Depths that were given and yet replaced by learned ones."""
    with pytest.raises(pydantic.ValidationError):
        Schedule(**fields)


def test_a_depth_behind_the_last_block():
    """A probe silently dropped, or an index error deep in the replay."""
    with pytest.raises(
        ExitbenchError, match="probe depth 25 does not exist in a model of 25 blocks; give depths from 1 to 24"
    ):
        Schedule(depths=(10, 25)).at(25)


def net_savings(probes, decided, rho, probe_cost):
    """What a perfect detector saves, net of failed probes, by walking the tokens' decision depths."""
    shares = np.diff(decided, prepend=0)
    total = 0.0
    for depth, share in enumerate(shares):
        exits = next((probe for probe in probes if probe >= depth), None)
        failed = sum(probe < depth for probe in probes)
        total += share * ((rho[exits] if exits is not None else 0) - failed * probe_cost)
    return total


@st.composite
def curves(draw):
    num_blocks = draw(st.integers(1, 6))
    counts = np.array(draw(st.lists(st.integers(0, 9), min_size=num_blocks + 1, max_size=num_blocks + 1)), dtype=float)
    counts[-1] += 1
    costs = np.array(draw(st.lists(st.integers(1, 9), min_size=num_blocks, max_size=num_blocks)), dtype=float)
    rho = np.append(np.cumsum((costs / costs.sum())[::-1])[::-1], 0)
    return (
        np.cumsum(counts) / counts.sum(),
        rho,
        draw(st.sampled_from([0.0, 0.003, 0.05, 0.2, 1.0])),
        draw(st.integers(1, 7)),
    )


@settings(deadline=None)
@given(curves())
def test_best_probes_equal_trying_all_sets(drawn):
    """A dynamic programme that forgets a state, so that other probes save more; failed probes left out of the price."""
    decided, rho, probe_cost, most = drawn
    inner = range(1, len(rho) - 1)
    tried = [probes for count in range(min(most, len(inner)) + 1) for probes in combinations(inner, count)]
    best = max(net_savings(probes, decided, rho, probe_cost) for probes in tried)
    got = best_probes(decided, rho, probe_cost=probe_cost, most=most)
    assert got in tried
    assert net_savings(got, decided, rho, probe_cost) == pytest.approx(best, abs=1e-12)


def test_best_probes_by_hand():
    """Probes where nothing is decided; probes bought that cost more than they save."""
    decided, rho = np.array([0, 0.5, 0.5, 1.0, 1.0]), np.array([1, 0.75, 0.5, 0.25, 0])
    assert best_probes(decided, rho, probe_cost=0.0, most=1) == (1,)
    assert best_probes(decided, rho, probe_cost=0.1, most=4) == (1, 3)
    assert best_probes(decided, rho, probe_cost=1.0, most=4) == (3,)  # at depth 3 no probe fails
    assert best_probes(np.array([0, 0, 0, 0, 1.0]), rho, probe_cost=0.01, most=4) == ()
    assert best_probes(np.array([0.0, 1.0]), np.array([1.0, 0.0]), probe_cost=0.0, most=3) == ()
