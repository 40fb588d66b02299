"""Certificates: p-values by hand, what procedures may never do, and promises kept where the truth is known."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from scipy.stats import binom, binomtest

from exitbench.errors import ExitbenchError
from exitbench.stats.certify import (
    Certificate,
    bonferroni,
    certify,
    conformal,
    conformal_bounds,
    fixed_sequence,
    hoeffding_bentkus,
    prompts_needed,
    require_prompts,
)
from promises import SAVINGS, edge, simulate, typical

PROCEDURES = ("fixed-sequence", "bonferroni", "conformal")
DELTA = 0.1
REPETITIONS = 2000
HARDLY = 1e-4  # level at which a simulation refutes a promise

losses_like = arrays(
    np.float64, st.tuples(st.integers(1, 60), st.integers(1, 6)), elements=st.sampled_from([0, 0, 0, 0.25, 1])
)
levels = st.floats(0.01, 0.9)


def p_value(errors, n_prompts, eps):
    return float(hoeffding_bentkus(np.array([errors / n_prompts]), n_prompts=n_prompts, eps=eps)[0])


def exact_tail(errors, n_prompts, eps):
    share = Fraction(eps)
    return sum(math.comb(n_prompts, k) * share**k * (1 - share) ** (n_prompts - k) for k in range(errors + 1))


def chosen(losses, procedure, eps, delta=DELTA):
    index = certify(losses, procedure=procedure, risk="token", eps=eps, delta=delta).index
    return -1 if index is None else index


@pytest.mark.parametrize(
    ("errors", "n_prompts", "eps", "expected"),
    [
        (0, 10, 0.05, 0.95**10),
        (0, 229, 0.01, 0.99**229),
        # h(0.1, 0.5) = 0.1 ln 0.2 + 0.9 ln 1.8, below e (1 + 10) / 1024
        (1, 10, 0.5, 0.2**-1 * (1 / 1.8) ** 9),
        # exp(-4 h(1/4, 1/2)) = 2 (2/3)^3 = 0.593, below e P(Bin(4, 1/2) <= 1) = e 5 / 16 = 0.849
        (1, 4, 0.5, 2 * (2 / 3) ** 3),
        # half an error counts as one for Bentkus: e P(Bin(40, 0.2) <= 4) with R = 3.5 / 40
        (3.5, 40, 0.2, None),
        (5, 10, 0.5, 1.0),
        (10, 10, 0.5, 1.0),
    ],
)
def test_p_values_by_hand(errors, n_prompts, eps, expected):
    """A wrong sign, base or tail; the smaller of the two bounds not taken; errors rounded down."""
    if expected is None:
        bentkus = math.e * float(exact_tail(math.ceil(errors), n_prompts, eps))
        mean = errors / n_prompts
        hoeffding = ((mean / eps) ** mean * ((1 - mean) / (1 - eps)) ** (1 - mean)) ** -n_prompts
        expected = min(bentkus, hoeffding)
    assert p_value(errors, n_prompts, eps) == pytest.approx(expected, rel=1e-12)


def test_bentkus_is_taken_where_it_is_smaller():
    """Hoeffding's half alone, which is nearly twice as large here."""
    bentkus = math.e * float(exact_tail(80, 1000, 0.1))
    assert p_value(80, 1000, 0.1) == pytest.approx(bentkus, rel=1e-10)
    assert bentkus < 0.6 * math.exp(-1000 * (0.08 * math.log(0.8) + 0.92 * math.log(0.92 / 0.9)))


def test_whole_sums_of_shares_are_not_rounded_up():
    """Ten shares of 0.1 sum to 0.9999999999999999: rounding may as well go the other way, and add an error."""
    just_above = np.nextafter(0.08, 1) * 1000
    assert just_above > 80
    assert p_value(just_above, 1000, 0.1) == pytest.approx(p_value(80, 1000, 0.1), rel=1e-9)


def test_p_values_where_numbers_get_small():
    """1 - eps rounded, logarithms of 0, or a tail that underflows to something else than a small number."""
    assert p_value(0, 10**6, 1e-9) == pytest.approx(math.exp(10**6 * math.log1p(-1e-9)), rel=1e-12)
    assert 0 <= p_value(0, 10**6, 0.5) < 1e-300
    assert 0 < p_value(10, 2000, 0.1) < 1e-50


@pytest.mark.parametrize("eps", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("n_prompts", [1, 45, 230, 384])
def test_p_values_are_valid_for_zero_one_losses(n_prompts, eps):
    """P(p <= a) > a for some a, at a risk of eps exactly: computed, not simulated."""
    errors = np.arange(n_prompts + 1)
    p_values = hoeffding_bentkus(errors / n_prompts, n_prompts=n_prompts, eps=eps)
    assert np.all(binom.cdf(errors, n_prompts, eps) <= p_values * (1 + 1e-9) + 1e-300)


@given(st.integers(1, 500), st.integers(0, 500), levels, st.integers(2, 20))
def test_p_values_fall_with_n(n_prompts, errors, eps, times):
    """More of the same prompts making a thing less sure."""
    errors = min(errors, n_prompts)
    once, more = p_value(errors, n_prompts, eps), p_value(errors * times, n_prompts * times, eps)
    assert 0 <= more <= once * (1 + 1e-9)
    assert once <= 1
    assert p_value(0, n_prompts + 1, eps) <= p_value(0, n_prompts, eps) * (1 - 0.9 * eps)


@given(st.integers(1, 500), st.floats(0, 1), st.floats(0, 1), levels, levels)
def test_p_values_fall_with_fewer_losses_and_a_larger_eps(n_prompts, loss, other, eps, larger):
    low, high = sorted((loss, other))
    eps, larger = sorted((eps, larger))
    better, worse = hoeffding_bentkus(np.array([low, high]), n_prompts=n_prompts, eps=eps)
    assert better <= worse * (1 + 1e-9)
    assert p_value(high * n_prompts, n_prompts, larger) <= worse * (1 + 1e-9)


def test_fixed_sequence_stops_at_the_first_failure():
    """A threshold beyond a failure taken, which some do pass by luck."""
    assert fixed_sequence(np.array([0.01, 0.1, 0.11, 0.0]), 0.1) == 1
    assert fixed_sequence(np.array([0.01, 0.02]), 0.1) == 1
    assert fixed_sequence(np.array([0.2, 0.0]), 0.1) is None


def test_bonferroni_divides_delta_and_looks_at_all():
    """delta not divided, or a stop at a failure."""
    assert bonferroni(np.array([0.3, 0.025, 0.0251, 0.0]), 0.1).tolist() == [1, 3]
    assert bonferroni(np.array([0.06, 0.06]), 0.1).tolist() == []


def test_conformal_by_hand():
    """A plain mean without the one loss that the next prompt may have, or losses that fall taken as they are."""
    losses = np.array([[0, 0.5, 0.0, 1], [0, 0, 0.25, 0.25], [0, 0, 0, 0]])
    assert conformal_bounds(losses).tolist() == [1 / 4, 1.5 / 4, 1.75 / 4, 2.25 / 4]
    assert conformal(losses, 1.75 / 4) == 2
    assert conformal(losses, 0.24) is None
    assert conformal(np.zeros((99, 3)), 0.01) == 2


@given(losses_like, st.sampled_from(PROCEDURES), levels, levels, levels, levels)
def test_a_looser_promise_allows_no_less(losses, procedure, eps, eps_2, delta, delta_2):
    """A choice that gets stricter when more is allowed."""
    eps, eps_2 = sorted((eps, eps_2))
    delta, delta_2 = sorted((delta, delta_2))
    index = chosen(losses, procedure, eps, delta)
    assert chosen(losses, procedure, eps_2, delta) >= index
    assert chosen(losses, procedure, eps, delta_2) >= index


@given(losses_like, st.sampled_from(PROCEDURES), levels, st.randoms(use_true_random=False))
def test_the_order_of_prompts_does_not_matter(losses, procedure, eps, random):
    order = list(range(len(losses)))
    random.shuffle(order)
    assert chosen(losses[order], procedure, eps) == chosen(losses, procedure, eps)


@given(losses_like, st.sampled_from(PROCEDURES), levels)
def test_a_certificate_says_what_let_its_threshold_through(losses, procedure, eps):
    """A level beside the chosen threshold at which it would not have been chosen."""
    result = certify(losses, procedure=procedure, risk="answer", eps=eps)
    assert (result.n_prompts, result.num_thresholds) == losses.shape
    assert (result.delta is None) == (procedure == "conformal")
    if result.index is None:
        assert result.mean_loss is result.p_value is result.bound is None
        assert result.reason.startswith("too few prompts") == (len(losses) < result.prompts_needed)
        return
    assert result.mean_loss == losses[:, result.index].mean()
    assert result.mean_loss < eps
    if procedure == "conformal":
        assert result.bound <= eps
        assert chosen(losses, procedure, result.bound * (1 - 1e-9)) < result.index
    else:
        assert result.p_value <= DELTA
        assert chosen(losses, procedure, eps, result.p_value * (1 - 1e-9)) < result.index


@pytest.mark.parametrize(
    ("procedure", "eps", "num_thresholds", "needed"),
    [
        ("fixed-sequence", 0.01, 20, 230),
        ("fixed-sequence", 0.05, 20, 45),
        ("bonferroni", 0.01, 20, 528),
        ("bonferroni", 0.05, 20, 104),
        ("bonferroni", 0.05, 1, 45),
        ("conformal", 0.01, 20, 99),
        ("conformal", 0.05, 20, 19),
    ],
)
def test_prompts_needed(procedure, eps, num_thresholds, needed):
    """One prompt too few: 0.99^229 = 0.1001 is above 0.1. And one too many."""
    assert prompts_needed(procedure, eps=eps, delta=0.1, num_thresholds=num_thresholds) == needed
    for n_prompts, index in ((needed - 1, -1), (needed, num_thresholds - 1)):
        assert chosen(np.zeros((n_prompts, num_thresholds)), procedure, eps, 0.1) == index


def test_too_few_prompts_is_an_answer_with_the_number():
    result = certify(np.zeros((57, 3)), procedure="fixed-sequence", risk="token", eps=0.01)
    assert result.reason == (
        "too few prompts: needs at least 230 calibration prompts (ln 0.1 / ln 0.99 = 229.1), got 57"
    )
    result = certify(np.zeros((57, 20)), procedure="bonferroni", risk="token", eps=0.01)
    assert "528 calibration prompts (ln (0.1 / 20) / ln 0.99 = 527.2)" in result.reason
    result = certify(np.zeros((57, 20)), procedure="conformal", risk="token", eps=0.01)
    assert "99 calibration prompts (1 / 0.01 - 1 = 99.0), got 57" in result.reason


@pytest.mark.parametrize("procedure", PROCEDURES)
def test_nothing_that_satisfies_is_an_answer(procedure):
    """An exception, or a threshold all the same."""
    result = certify(np.full((500, 3), 0.25), procedure=procedure, risk="token", eps=0.05)
    assert result.index is None
    assert result.reason.startswith("no threshold satisfies this: smallest ")
    assert result.reason.endswith("mean loss of the strictest 0.25")


def test_prompts_without_a_loss_do_not_count():
    """n with prompts that have no reference, or their NaN taken for 0."""
    losses = np.zeros((100, 2))
    losses[:60] = np.nan
    result = certify(losses, procedure="fixed-sequence", risk="task", eps=0.05)
    assert result.n_prompts == 40
    assert result.reason.endswith("got 40")
    nothing = certify(np.full((9, 2), np.nan), procedure="conformal", risk="task", eps=0.5)
    assert (nothing.n_prompts, nothing.index) == (0, None)


def test_whoever_asks_for_a_certificate_is_told_before():
    """An empty certificate for a user who asked for one explicitly."""
    require_prompts(230, procedure="fixed-sequence", eps=0.01, num_thresholds=20)
    with pytest.raises(
        ExitbenchError, match=r"needs at least 230 calibration prompts \(.*\), got 229; use more prompts"
    ):
        require_prompts(229, procedure="fixed-sequence", eps=0.01, num_thresholds=20)


@pytest.mark.parametrize(("eps", "delta"), [(0, 0.1), (1, 0.1), (-1, 0.1), (math.nan, 0.1), (0.01, 0), (0.01, 1)])
def test_senseless_levels_are_refused(eps, delta):
    """A search without end, or a certificate of nothing."""
    with pytest.raises(ExitbenchError, match=r"(eps|delta) is .*, expected"):
        certify(np.zeros((9, 2)), procedure="fixed-sequence", risk="token", eps=eps, delta=delta)


def test_losses_outside_their_range_are_a_bug():
    for losses in (np.array([[0, 1.5]]), np.array([[0, -0.1]]), np.array([[0, np.nan]])):
        with pytest.raises(AssertionError):
            certify(losses, procedure="conformal", risk="token", eps=0.5)


def test_a_certificate_survives_its_json_and_has_a_threshold_or_a_reason():
    result = certify(np.zeros((50, 3)), procedure="fixed-sequence", risk="token", eps=0.05)
    assert Certificate.model_validate_json(result.model_dump_json()) == result
    with pytest.raises(ValidationError, match="a threshold or a reason"):
        Certificate.model_validate(result.model_dump() | {"index": None})


CASES = {
    "token, 5 %, 45": (lambda: typical("token"), 0.05, 45),
    "token, 1 %, 384": (lambda: typical("token"), 0.01, 384),
    "answer, 5 %, 45": (lambda: typical("answer"), 0.05, 45),
    "answer, 5 %, 384": (lambda: typical("answer"), 0.05, 384),
    "answer, 1 %, 384": (lambda: typical("answer"), 0.01, 384),
    "task, 5 %, 100": (lambda: typical("task"), 0.05, 100),
    "edge, 5 %, 45": (lambda: edge(0.05), 0.05, 45),
    "edge, 1 %, 230": (lambda: edge(0.01), 0.01, 230),
    "edge, 5 %, 384": (lambda: edge(0.05), 0.05, 384),
}


@pytest.fixture(scope="module", params=CASES)
def outcomes(request):
    losses, eps, num_prompts = CASES[request.param]
    run = simulate(losses(), num_prompts=num_prompts, eps=eps, delta=DELTA, repetitions=REPETITIONS)
    return eps, run


def refuted(outcome, eps):
    """Whether as few kept promises as these are next to impossible if each is kept with probability 1 - delta."""
    kept = outcome.kept(eps)
    return binomtest(kept, REPETITIONS, 1 - DELTA, alternative="less").pvalue < HARDLY


def mean_refuted(outcome, eps):
    """Whether the mean of the true risks lies above eps by more than its standard error can explain."""
    return outcome.risk.mean() > eps + 4 * outcome.risk.std(ddof=1) / math.sqrt(REPETITIONS)


def test_certified_thresholds_keep_their_promise(outcomes):
    """Anything that lets a threshold through too easily."""
    eps, run = outcomes
    for procedure in ("fixed-sequence", "bonferroni"):
        assert not refuted(run[procedure], eps), (procedure, run[procedure].kept(eps))
    assert not mean_refuted(run["conformal"], eps), run["conformal"].risk.mean()


def test_a_naive_choice_breaks_the_same_promise(outcomes):
    """Workloads on which everything passes, so that the test above proves nothing."""
    eps, run = outcomes
    assert refuted(run["naive"], eps), run["naive"].kept(eps)


def test_a_naive_choice_breaks_the_promise_of_a_mean_too():
    run = simulate(typical("answer"), num_prompts=45, eps=0.05, delta=DELTA, repetitions=REPETITIONS)
    assert mean_refuted(run["naive"], 0.05), run["naive"].risk.mean()


def test_promises_are_not_kept_by_promising_nothing():
    """Procedures more careful than they say: here 0.95^45 = 9.9 % of the repetitions may break the promise, and do."""
    tight = simulate(edge(0.05), num_prompts=45, eps=0.05, delta=DELTA, repetitions=REPETITIONS)["fixed-sequence"]
    assert binomtest(tight.kept(0.05), REPETITIONS, 0.93, alternative="greater").pvalue > HARDLY


def test_power_grows_with_the_prompts():
    """The share of repetitions in which some threshold that exits is certified, and what it saves."""
    runs = {
        num_prompts: simulate(
            typical("answer"), num_prompts=num_prompts, eps=0.05, delta=DELTA, repetitions=REPETITIONS
        )
        for num_prompts in (45, 100, 384)
    }
    for procedure, least in {
        "fixed-sequence": (0.7, 0.85, 0.99),
        "bonferroni": (0, 0, 0.95),
        "conformal": (0.9, 0.99, 0.99),
    }.items():
        shares = [(run[procedure].index > 0).mean() for run in runs.values()]
        assert np.all(np.array(shares) >= least), (procedure, shares)
        assert np.all(np.diff([run[procedure].saved for run in runs.values()]) >= 0), procedure
    assert np.all(runs[45]["bonferroni"].index == -1)  # 117 are needed for 40 thresholds


def test_the_simulation_uses_what_is_shipped():
    """A simulation of something else than `certify`."""
    losses, drawn = typical("answer"), np.random.default_rng(0)
    run = simulate(losses, num_prompts=200, eps=0.05, delta=DELTA, repetitions=20)
    assert SAVINGS.shape == losses.shape[1:]
    for repetition in range(20):
        sample = losses[drawn.integers(len(losses), size=200)]
        for procedure in PROCEDURES:
            assert chosen(sample, procedure, 0.05) == run[procedure].index[repetition]
