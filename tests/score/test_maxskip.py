"""MaxSkip: which cut is named, by hand; and how often the bound is wrong."""

import numpy as np
import pytest
from scipy.stats import binom

from exitbench.score.maxskip import ALL_TASKS, Graded, pooled, task_skip

RHO = np.array([1.0, 0.75, 0.5, 0.25, 0.0])


def graded(scores, task="sums", metric="acc,none"):
    documents = tuple((task, number, f"doc{number}", f"prompt{number}") for number in range(len(scores)))
    return Graded(
        task=task, metric=metric, documents=documents, scores=tuple(map(float, scores)), tokens=(3,) * len(scores)
    )


def losing(count, *, of, gained=0):
    """All right but `gained` documents in the full model; the cut loses `count` of them, and is right about those."""
    full = np.ones(of)
    full[of - gained :] = 0
    cut = np.ones(of)
    cut[:count] = 0
    return full, cut


def skips(counts, *, of, gained=0):
    """MaxSkip at 1 and at 5 points of cuts at depths 3, 2, 1 that lose so many documents."""
    full = losing(0, of=of, gained=gained)[0]
    cuts = [(3 - k, graded(losing(count, of=of, gained=gained)[1])) for k, count in enumerate(counts)]
    return task_skip(graded(full), cuts, rho=RHO)


def depth_of(cut):
    return None if cut is None else cut.depth


def test_drops_by_hand():
    """The wrong sign, a share in place of points, or the depth of another column."""
    result = skips([1, 4, 10], of=20)
    assert [(at.depth, at.saved, at.score.value, at.drop.value) for at in result.depths] == [
        (3, 0.25, 0.95, pytest.approx(5.0)),
        (2, 0.5, 0.8, pytest.approx(20.0)),
        (1, 0.75, 0.5, pytest.approx(50.0)),
    ]
    assert (result.full.value, result.full.n_prompts, result.full.n_tokens) == (1.0, 20, 60)
    for at in result.depths:
        assert at.drop.low <= at.drop.value <= at.drop.high < at.bound + 1e-9
        assert at.bound == pytest.approx(at.drop.high, abs=15)  # one document of 21 more


def test_intervals_are_those_of_pairs():
    """Two unpaired intervals: a cut that is right about the same documents would seem to differ by luck."""
    scores = [0, 1] * 10
    result = task_skip(graded(scores), [(3, graded(scores))], rho=RHO)
    assert (result.depths[0].drop.low, result.depths[0].drop.high) == (0, 0)
    assert result.depths[0].score.low < 0.5 < result.depths[0].score.high


def test_binomial_bound():
    """A bound of another sample than the one with the lost document added; its quantile is known in closed form."""
    bound = skips([5], of=199).depths[0].bound
    assert bound == pytest.approx(100 * binom.ppf(0.975, 200, 6 / 200) / 200, abs=0.51)  # of whole documents


def test_estimated_is_the_largest_of_all_depths():
    """A search that stops at an unlucky depth, or that forgets gains."""
    by_points = {figure.points: figure for figure in skips([9, 3, 40], of=400).max_skip}
    assert depth_of(by_points[1].estimated) == 2  # 0.75 points; depth 3 loses 2.25
    assert depth_of(by_points[5].estimated) == 2
    assert by_points[1].estimated.saved == 0.5
    gains = {figure.points: figure for figure in skips([9, 3, 40], of=400, gained=30).max_skip}
    assert depth_of(gains[5].estimated) == 1  # 2.5 points net of what it gains


def test_bounded_stops_at_the_first_failure():
    """A lucky depth beyond one that failed: among many such depths one always passes."""
    by_points = {figure.points: figure for figure in skips([40, 0, 0], of=400).max_skip}
    assert depth_of(by_points[1].estimated) == 1
    assert depth_of(by_points[1].bounded) == depth_of(by_points[5].bounded) == 4
    assert by_points[5].bounded.saved == 0
    kept = {figure.points: figure for figure in skips([0, 9, 40], of=400).max_skip}
    assert (depth_of(kept[1].bounded), depth_of(kept[5].bounded)) == (3, 2)


def test_just_so_many_points_are_enough():
    """A drop of exactly x refused for the last digit of a mean."""
    for count in (100, 300, 700):
        assert depth_of(skips([count // 100], of=count).max_skip[0].estimated) == 3


@pytest.mark.parametrize(("points", "needed"), [(1.0, 368), (5.0, 72)])
def test_too_few_documents_for_a_bound(points, needed):
    """A promise from documents among which such a drop would not have shown."""
    assert (1 - points / 100) ** needed <= 0.025 < (1 - points / 100) ** (needed - 1)
    for count, there in ((needed - 1, False), (needed, True)):
        (figure,) = [one for one in skips([0], of=count).max_skip if one.points == points]
        assert depth_of(figure.bounded) == (3 if there else None)
        assert depth_of(figure.estimated) == 3
        if not there:
            assert f"fewer than {needed}" in figure.reasons["bounded"]


def test_task_that_the_full_model_fails_says_nothing():
    """The largest cut of all named harmless, as there is nothing to lose."""
    nothing = task_skip(graded([0] * 400), [(3, graded([0] * 400))], rho=RHO)
    little = task_skip(graded([1] * 8 + [0] * 392), [(3, graded([0] * 400))], rho=RHO)  # 2 points, all lost
    for figure in nothing.max_skip:
        assert (figure.estimated, figure.bounded) == (None, None)
        assert figure.reasons["bounded"].startswith("the full model scores 0 of 100")
    assert [depth_of(figure.estimated) for figure in little.max_skip] == [4, None]
    assert little.max_skip[1].reasons["estimated"].startswith("the full model scores 2 of 100")


def test_fewer_than_ten_documents_give_nothing():
    """A figure from nine documents."""
    result = skips([0], of=9)
    assert result.depths[0].bound is None
    for figure in result.max_skip:
        assert figure.estimated is None
        assert figure.reasons == dict.fromkeys(("estimated", "bounded"), "too few documents: needs at least 10, got 9")
        assert figure.model_dump(mode="json")["estimated_reason"] == figure.reasons["estimated"]


@pytest.mark.parametrize(("points", "count"), [(1, 368), (1, 500), (5, 72), (5, 200)])
def test_bound_is_seldom_wrong(points, count):
    """The plain end of the interval, which lets a cut that is just too harmful pass with a chance of up to 12 %."""
    wrong = 0.0
    for lost in range(count * points // 100):
        (figure,) = [one for one in skips([lost], of=count).max_skip if one.points == points]
        if depth_of(figure.bounded) == 3:
            wrong += binom.pmf(lost, count, points / 100)
    assert 0.005 < wrong < 0.04


def test_pooled_documents_keep_their_tasks():
    """Tasks resampled as one, so that the mix of tasks adds width; or a document counted in one task alone."""
    easy, hard = graded([1] * 12, task="easy"), graded([0] * 12, task="hard")
    both = pooled([easy, hard])
    assert (both.task, len(both.scores), both.documents[12][0]) == (ALL_TASKS, 24, "hard")
    result = task_skip(both, [(3, both)], rho=RHO)
    assert (result.full.low, result.full.value, result.full.high) == (0.5, 0.5, 0.5)


def test_equal_seeds_give_equal_figures():
    """Figures that cannot be had again."""
    assert skips([2, 5, 9], of=100) == skips([2, 5, 9], of=100)
