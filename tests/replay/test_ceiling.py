"""The oracle with a licence to err, against sorting the tokens."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitbench.replay.ceiling import oracle
from exitbench.stats.bootstrap import Bootstrap, Prompts, draw_weights
from exitbench.trace.decided import remaining_costs


def slow_oracle(first, rho, eps):
    allowed = int(eps * len(first) + 1e-9)
    late_first = sorted(first, reverse=True)
    return np.mean([rho[0] if rank < allowed else rho[depth] for rank, depth in enumerate(late_first)])


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.sampled_from([0.0, 0.01, 0.05, 0.29, 0.5, 1.0]))
def test_oracle_equals_sorting_the_tokens(first, eps):
    """Errors spent on tokens with little to gain, or one error too many."""
    rho = remaining_costs([0.1, 0.2, 0.3, 0.4])
    prompts = Prompts(row_prompt=np.arange(len(first)), categories=("chat",) * len(first))
    weights = draw_weights(prompts.categories, draws=4, rng=np.random.default_rng(0))
    counts = prompts.depth_counts(np.asarray(first), 5)
    got = oracle(counts, rho, Bootstrap(weights=weights), eps=eps)
    assert got.value == pytest.approx(slow_oracle(first, rho, eps))
    for value, row in zip(got.resamples, weights.astype(int), strict=True):
        assert value == pytest.approx(slow_oracle(np.repeat(first, row), rho, eps))


def test_oracle_with_no_errors_is_first_match_and_with_all_is_everything():
    """Ends of the oracle's range off."""
    rho = remaining_costs([0.5, 0.5])
    counts = np.array([[1.0, 2.0, 3.0]] * 10)
    bootstrap = Bootstrap(weights=np.ones((2, 10)))
    assert oracle(counts, rho, bootstrap, eps=0.0).value == pytest.approx((1 + 2 * 0.5) / 6)
    assert oracle(counts, rho, bootstrap, eps=1.0).value == pytest.approx(1)


def test_the_number_of_errors_is_floored_exactly():
    """0.29 * 100 is 28.999... in floats; its floor would take an error away from the oracle."""
    bootstrap = Bootstrap(weights=np.ones((2, 10)))
    counts = np.array([[0.0, 10.0]] * 10)
    assert oracle(counts, remaining_costs([1.0]), bootstrap, eps=0.29).value == pytest.approx(0.29)
