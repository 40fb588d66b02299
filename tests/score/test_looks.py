"""Looks: which are planned, what is spent on each, and whether the interval at which one stops holds what it says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exitbench.errors import TraceError
from exitbench.score import score
from exitbench.score.assemble import ees
from exitbench.score.looks import FIRST_LOOK, Looks, plan_looks
from exitbench.stats.bootstrap import strata
from exitbench.trace.precision import Look, Precision
from peeking import simulate, worst_coverage

REPETITIONS = 1000


@pytest.mark.parametrize(
    ("num_prompts", "planned"),
    [
        (10, [(10, 0.95)]),
        (58, [(58, 0.95)]),
        (59, [(30, 0.975), (59, 0.975)]),
        (126, [(32, 0.9875), (63, 0.9875), (126, 0.975)]),
        (240, [(30, 0.99375), (60, 0.99375), (120, 0.9875), (240, 0.975)]),
    ],
)
def test_planned_looks(num_prompts, planned):
    """A look too early for its interval, a last look that misses prompts, or a level that is not what was spent."""
    assert [(num, pytest.approx(level)) for num, level in plan_looks(num_prompts)] == planned


@given(st.integers(10, 100_000))
def test_five_per_cent_are_spent_and_no_more(num_prompts):
    """Looks that together may miss more often than stated, or that waste what they may."""
    planned = plan_looks(num_prompts)
    assert sum(1 - level for _, level in planned) == pytest.approx(0.05)
    sizes = [num for num, _ in planned]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == num_prompts
    assert all(num >= FIRST_LOOK for num in sizes[:-1])


@pytest.mark.parametrize("sizes", [[21] * 6, [160], [10] * 13], ids=["6 of 21", "160", "13 of 10"])
def test_coverage_where_a_run_stops(sizes):
    """Intervals that are narrower than they say because one stopped where they were narrow.

    1 000 simulated workloads: the share of right intervals may lie below 0.95 by two of its standard errors (0.007).
    The ordinary intervals of a card, looked at just as often, must not pass the same test.
    """
    floor = 0.95 - 2 * (0.95 * 0.05 / REPETITIONS) ** 0.5
    assert worst_coverage(simulate(sizes, repetitions=REPETITIONS)) >= floor
    assert worst_coverage(simulate(sizes, repetitions=REPETITIONS, level=0.95, within=list)) < floor


def test_categories_of_one_prompt_have_width():
    """One prompt of each of 60 categories: resampled within them, nothing ever changes, and all seems known."""
    within = simulate([2] * 60, repetitions=50, within=list)
    assert within.half_width[0].max() == 0
    assert simulate([2] * 60, repetitions=50).half_width[0].min() > 0.01


def test_strata():
    """Categories merged that are large enough, or left alone that are not."""
    categories = ["a"] * 5 + ["b"] * 4 + ["c"]
    assert strata(categories) == ["a"] * 5 + [""] * 5


def stopped(trace, target, *, of=4):
    """The trace, as if it were the first of `of` times as many samples, and its first look."""
    looks = Looks(target, seed=0)
    looks.plan(of * len(trace.samples))
    return looks.look(trace)


@pytest.fixture(scope="module")
def many(make_trace, make_top1):
    """40 prompts in 4 categories of 10 tokens each."""
    depths = np.random.default_rng(3).binomial(8, 0.8, size=400)
    return make_trace(make_top1(depths, 8), prompts=np.repeat(np.arange(40), 10), categories=["a", "b", "c", "d"] * 10)


def test_a_look_states_what_the_card_will(many):
    """A half-width of other resamples, or of another level, than those of the card that it decides on."""
    precision = stopped(many, 0.2)
    assert precision.reached
    assert precision.finished
    (look,) = precision.looks
    assert (look.n_samples, look.n_prompts, precision.n_available, precision.n_looks) == (40, 40, 160, 3)
    trace = type(many)(**{**vars(many), "precision": precision})
    card = score(trace)
    assert card.precision == precision
    assert card.level == look.level == 0.9875
    assert (card.ees.high - card.ees.low) / 2 == look.half_width
    ordinary = score(many)
    assert ordinary.level == 0.95
    assert (ordinary.precision, ordinary.ees.value) == (None, card.ees.value)
    for name in ("ees", "ees_star", "ees_first_match", "ees_tv_30"):
        wide, narrow = getattr(card, name), getattr(ordinary, name)
        assert wide.high - wide.low > narrow.high - narrow.low, name


def test_a_wide_interval_does_not_stop(many):
    """A look that takes any width for enough, or that goes on beyond the last prompt."""
    first = stopped(many, 0.001)
    assert not first.reached
    assert not first.finished
    last = stopped(many, 0.001, of=1)
    assert not last.reached
    assert last.finished
    exactly = first.looks[0].half_width
    assert stopped(many, exactly).reached
    assert not stopped(many, np.nextafter(exactly, 0)).reached


def test_looks_add_up(many):
    """A later look that forgets the earlier ones, or takes their level."""
    looks = Looks(0.001, seed=0)
    assert looks.plan(80) == [40, 80]
    looks.look(many)
    precision = looks.look(many)
    assert [look.level for look in precision.looks] == [0.975, 0.975]
    assert precision.level == 0.975


def test_no_interval_is_no_precision(make_trace, make_top1):
    """Nine prompts with tokens, of which no interval is made: a missing width taken for a small one."""
    trace = make_trace(make_top1([2] * 9, 4), categories=["a"] * 12)
    precision = stopped(trace, 0.4)
    assert not precision.reached
    assert precision.looks[0].half_width is None
    assert "no interval" in precision.text()


def test_too_few_prompts_are_refused():
    """A run of minutes for a precision that it can never state."""
    with pytest.raises(TraceError, match="at least 10 prompts for an interval, got 9"):
        Looks(0.02, seed=0).plan(9)


def test_too_few_draws_for_the_level(many):
    """Percentiles of 100 draws taken for an interval of 98.75 %."""
    precision = Precision(
        target=0.2,
        reached=True,
        n_available=160,
        n_looks=3,
        looks=(Look(n_samples=40, n_prompts=40, level=0.9875, half_width=0.1),),
    )
    trace = type(many)(**{**vars(many), "precision": precision})
    with pytest.raises(TraceError, match=r"at least 400 for a 98\.75 % interval, got 399"):
        score(trace, draws=399)
    score(trace, draws=400)


def test_the_seed_has_a_say(many):
    """A look that always draws the same resamples."""
    assert ees(many, level=0.95, seed=1).value == ees(many, level=0.95).value
    assert ees(many, level=0.95, seed=1) != ees(many, level=0.95)
