"""MaxSkip: the largest cut, the same for all answer tokens, that costs a task no more than so many points.

Documents of a task are graded twice, by the full model and by the model cut off at a fixed depth d, and the drop is the
mean of the differences, document by document. Two answers to "at most x points":

- **estimated**: the largest rho(d) of all depths tried whose drop, as met, is at most x. It is what the figure is by
  definition, and optimistic: of several depths that lose about x, those that were lucky are looked for.
- **bounded**: an upper bound of the drop must be at most x, at that depth and at all deeper ones that were tried.
  Depths are gone through from deep to shallow and the first failure ends it, so their number adds nothing to the chance
  of a wrong claim. That chance is meant to be the 2.5 % above a 95 % interval.

Depth L loses nothing and saves nothing, so both are 0 where no cut qualifies. Where the full model itself scores x
points or less, any cut would qualify, and both are missing. What a task gives to a guess, 25 points for a choice among
four, is not known here, and cannot be lost either.

The bound is the upper end of the paired interval after one document has been added that is lost. Resamples see nothing
of documents that did not come up: where no document changed the interval has no width, and where few did it is too
narrow. Simulated tasks (2 000, of 72 to 2 000 documents, each lost with a chance of x = 1 or 5 points, none gained) let
a cut pass in 4 to 12 % by the interval's own upper end, and in 2.5 to 3.6 % with the document added. The bound is
missing where a drop of x would show in no document at all with a chance above 2.5 %: 368 documents are needed at 1
point, 72 at 5.

Shapes: N documents, K depths below L, B resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict

from exitbench.stats.bootstrap import LEVEL, MIN_PROMPTS, Bootstrap, Floats, draw_weights, ratio, strata
from exitbench.stats.certify import prompts_needed
from exitbench.stats.figure import Figure
from exitbench.stats.reasoned import Reasoned, with_reasons

__all__ = [
    "ALL_TASKS",
    "DRAWS",
    "POINTS",
    "Cut",
    "DepthScore",
    "Graded",
    "MaxSkip",
    "MaxSkipCard",
    "TaskSkip",
    "pooled",
    "task_skip",
]

ALL_TASKS = "all"
"""In place of a task's name, for the documents of all of them."""

POINTS = (1.0, 5.0)
"""Drops of a task metric, in points, at which MaxSkip is given."""
DRAWS = 2000
_ROUNDING = 1e-9
"""Of a mean in points."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Cut(_Frozen):
    """A model cut off at one depth."""

    depth: int
    saved: float
    """rho(d): share of the blocks' work behind it."""


class DepthScore(Cut):
    """A cut on a task. Figures count documents as prompts, and as tokens those that the full model was asked for."""

    score: Figure
    """Mean of the metric over documents."""
    drop: Figure
    """Points lost to the full model, mean of paired differences; negative where the cut is better."""
    bound: float | None
    """Upper bound of the drop, in points; None where there is no interval."""


class MaxSkip(Reasoned):
    """The largest cut that loses at most so many points; depth L where no cut does."""

    points: float
    estimated: Cut | None
    bounded: Cut | None


class TaskSkip(_Frozen):
    """One task at the full model and at cuts of it."""

    task: str
    metric: str
    """As the harness writes it, with its filter: "exact_match,strict-match"."""
    n_documents: int
    full: Figure
    depths: tuple[DepthScore, ...]
    """From deep to shallow."""
    max_skip: tuple[MaxSkip, ...]


class MaxSkipCard(_Frozen):
    """Everything that was measured, and with what."""

    model: str
    source: str
    weights_sha256: str
    dtype: str
    device: str
    attention: str
    state: str
    """How skipped blocks got their state."""
    num_blocks: int
    limit: int | None
    """Documents of each task, at most."""
    num_fewshot: int | None
    """Examples in each prompt; None for what the task says."""
    chat_template: bool
    seed: int
    draws: int
    command: str
    libraries: dict[str, str]
    tasks: tuple[TaskSkip, ...]


@dataclass(frozen=True, kw_only=True)
class Graded:
    """Documents as one model answered them and a task graded them."""

    task: str
    metric: str
    documents: tuple[tuple[str, int, str, str], ...]
    """(N) task, number, hash of the document and hash of its prompt."""
    scores: tuple[float, ...]
    """(N) in [0, 1], higher is better."""
    tokens: tuple[int, ...]
    """(N) decoded or followed."""


def pooled(graded: Sequence[Graded]) -> Graded:
    """All documents of several tasks as one, each counting alike.

    Args:
        graded: of the same metric.
    """
    assert len({one.metric for one in graded}) == 1, graded
    return Graded(
        task=ALL_TASKS,
        metric=graded[0].metric,
        documents=tuple(document for one in graded for document in one.documents),
        scores=tuple(score for one in graded for score in one.scores),
        tokens=tuple(count for one in graded for count in one.tokens),
    )


def task_skip(
    full: Graded, cuts: Sequence[tuple[int, Graded]], *, rho: Floats, seed: int = 0, draws: int = DRAWS
) -> TaskSkip:
    """MaxSkip on one task.

    Args:
        full: graded at depth L.
        cuts: K depths below L, from deep to shallow, with the same documents in the same order.
        rho: (L + 1,) share of the blocks' work behind each depth.
        seed: of the bootstrap.
        draws: B.
    """
    count = len(full.scores)
    scores = np.array([full.scores, *(graded.scores for _, graded in cuts)]).T
    drops = 100 * (scores[:, :1] - scores[:, 1:])
    rng = np.random.default_rng(seed)
    weights = draw_weights(strata([task for task, *_ in full.documents]), draws=draws, rng=rng)
    bounds = _bounds(drops, draws=draws, rng=rng)
    bootstrap, tokens = Bootstrap(weights=weights), np.array(full.tokens, dtype=np.float64)

    def mean(values: Floats) -> Figure:
        """Over documents; values (N,)."""
        figure = bootstrap.estimate(lambda w: ratio(w @ values, w.sum(axis=1)), tokens).figure()
        assert figure is not None
        return figure

    depths = tuple(
        DepthScore(
            depth=depth,
            saved=float(rho[depth]),
            score=mean(scores[:, column + 1]),
            drop=mean(drops[:, column]),
            bound=bounds[column],
        )
        for column, (depth, _) in enumerate(cuts)
    )
    full_score = mean(scores[:, 0])
    return TaskSkip(
        task=full.task,
        metric=full.metric,
        n_documents=count,
        full=full_score,
        depths=depths,
        max_skip=tuple(_max_skip(full_score, depths, points, len(rho) - 1) for points in POINTS),
    )


def _bounds(drops: Floats, *, draws: int, rng: np.random.Generator) -> list[float | None]:
    """Upper ends of the intervals of mean drops (N, K), in points, with one lost document more."""
    count, num_depths = drops.shape
    if count < MIN_PROMPTS:
        return [None] * num_depths
    more = np.vstack([drops, np.full(num_depths, 100.0)])
    weights = draw_weights([ALL_TASKS] * len(more), draws=draws, rng=rng)
    return [float(end) for end in np.percentile(weights @ more / len(more), 50 * (1 + LEVEL), axis=0)]


def _max_skip(full: Figure, depths: Sequence[DepthScore], points: float, num_blocks: int) -> MaxSkip:
    estimated: Cut | str
    bounded: Cut | str
    n_documents = full.n_prompts
    assert full.value is not None
    if n_documents < MIN_PROMPTS:
        estimated = bounded = f"too few documents: needs at least {MIN_PROMPTS}, got {n_documents}"
    elif 100 * full.value <= points + _ROUNDING:
        estimated = bounded = f"the full model scores {100 * full.value:.3g} of 100: no cut could lose more than that"
    else:
        estimated = bounded = Cut(depth=num_blocks, saved=0.0)
        for at in depths:
            if at.drop.value is not None and at.drop.value <= points + _ROUNDING:
                estimated = max(estimated, Cut(depth=at.depth, saved=at.saved), key=lambda cut: cut.saved)
        for at in depths:
            if at.bound is None or at.bound > points + _ROUNDING:
                break
            bounded = Cut(depth=at.depth, saved=at.saved)
        tail = (1 - LEVEL) / 2
        needed = prompts_needed("fixed-sequence", eps=points / 100, delta=tail, num_thresholds=1)
        if n_documents < needed:
            bounded = f"too few documents: in fewer than {needed} such a drop could go unseen, got {n_documents}"
    return MaxSkip.model_validate({"points": points} | with_reasons({"estimated": estimated, "bounded": bounded}))
