"""Calibration with a guarantee: the loosest threshold of which a bound on the risk can be promised.

The setting of all procedures: P prompts drawn independently from the workload of which something is to be promised, G
thresholds *fixed before any of them was seen* and ordered from strict (never exit) to loose, and for each prompt and
threshold a loss in [0, 1] (`risk`). The risk of a threshold is the expectation of its loss over such prompts. n counts
prompts, never tokens, because tokens of one prompt depend on each other.

- **fixed-sequence** and **bonferroni** are Learn-then-Test (Angelopoulos, Bates, Candes, Jordan and Lei, arXiv
  2110.01052): for each threshold the hypothesis "its risk exceeds eps" is tested, and the chance that any threshold
  is wrongly let through is at most delta. So with probability 1 - delta over the calibration prompts, the risk of the
  chosen threshold is at most eps. A fixed sequence spends all of delta on each test and stops at the first failure;
  Bonferroni spends delta / G on each and looks at all, which pays only where strict thresholds fail and looser
  ones do not.
- **conformal** is conformal risk control (Angelopoulos, Bates, Fisch, Lei and Schuster, arXiv 2208.02814): the loss of
  the chosen threshold on one more prompt is at most eps *in expectation*, over calibration and new prompt together.
  There is no delta: a given calibration may well have a larger risk. It takes losses that never fall as thresholds
  get looser, and disagreement does fall now and then, so each prompt's losses are replaced by their running maximum
  from strict to loose. Those bound the losses themselves, hence so does the promise.

The risk need not rise with looseness for the first two. p-values are Hoeffding-Bentkus ones (Bates, Angelopoulos, Lei,
Malik and Jordan, arXiv 2101.02703), valid for any loss in [0, 1] at any n.

"No threshold satisfies this" and "too few prompts" are ordinary answers, with the reason in the record.

Non-goals: choosing the thresholds, and promises for other workloads, or for generation that goes on from an early exit.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator
from scipy.special import bdtr, xlog1py, xlogy

from exitbench.errors import ExitbenchError
from exitbench.stats.risk import Risk

__all__ = [
    "DELTA",
    "Certificate",
    "Procedure",
    "bonferroni",
    "certify",
    "conformal",
    "conformal_bounds",
    "fixed_sequence",
    "hoeffding_bentkus",
    "prompts_needed",
    "require_prompts",
]

DELTA = 0.1
"""Chance of a wrong promise, unless another is asked for."""

MIN_EPS = 1e-6
"""Smallest bound on the risk; it takes two million prompts."""

Floats = NDArray[np.float64]
Procedure = Literal["fixed-sequence", "bonferroni", "conformal"]


class Certificate(BaseModel):
    """What a calibration promises, or why it promises nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    procedure: Procedure
    risk: Risk
    eps: float
    """Bound on the risk."""
    delta: float | None
    """Chance that the promise is wrong; None for conformal, which promises an expectation."""
    n_prompts: int
    """Prompts that have a loss."""
    prompts_needed: int
    """Fewest with which a threshold that never errs could have been certified."""
    num_thresholds: int
    """G."""
    index: int | None
    """Chosen threshold, counted from strict to loose; None: none, that is, never exit."""
    mean_loss: float | None
    """Of the chosen threshold, over the prompts."""
    p_value: float | None
    """Of the chosen threshold, corrected for the procedure: the smallest delta at which it would be let through."""
    bound: float | None
    """Of the chosen threshold, for conformal: the smallest eps at which it would be let through."""
    reason: str | None
    """Why there is no threshold."""

    @model_validator(mode="after")
    def _threshold_or_reason(self) -> "Certificate":
        if (self.index is None) != (self.reason is not None):
            raise ValueError(f"a certificate has a threshold or a reason, got {self.index} and {self.reason!r}")
        return self


def hoeffding_bentkus(mean_loss: Floats, *, n_prompts: int, eps: float) -> Floats:
    """Return p-values for "the risk exceeds eps", of the shape of `mean_loss`.

    The smaller of Hoeffding's exp(-n h(min(R, eps), eps)), with h(a, b) = a ln(a / b) + (1 - a) ln((1 - a) / (1 - b)),
    and Bentkus' e P(Bin(n, eps) <= ceil(n R)), at most 1 (arXiv 2101.02703, the Hoeffding-Bentkus inequality).

    Args:
        mean_loss: (*K) mean R of n losses in [0, 1] at each threshold.
        n_prompts: n, at least 1.
        eps: bound on the risk, between 0 and 1.
    """
    low = np.minimum(mean_loss, eps)
    # log1p keeps 1 - eps exact where eps is tiny, and R = 0 gives (1 - eps)^n.
    divergence = xlogy(low, low / eps) + xlog1py(1 - low, -low) - xlog1py(1 - low, -eps)
    hoeffding = np.exp(-n_prompts * divergence)
    # A sum of shares that is whole but for rounding must not be rounded up to the next whole number.
    errors = np.clip(np.ceil(n_prompts * mean_loss - 1e-9), 0, n_prompts)
    bentkus = math.e * bdtr(errors, n_prompts, eps)
    return np.minimum(1.0, np.minimum(hoeffding, bentkus))


def fixed_sequence(p_values: Floats, delta: float) -> int | None:
    """Test from strict to loose, each at level delta, and stop at the first threshold that is not let through.

    Args:
        p_values: (G,) strict to loose.
        delta: chance of a wrong promise.

    Returns:
        Index of the last threshold before the stop; None where already the strictest is not let through.
    """
    return _last(np.logical_and.accumulate(p_values <= delta))


def bonferroni(p_values: Floats, delta: float) -> NDArray[np.int64]:
    """Test all thresholds, each at level delta / G.

    Args:
        p_values: (G,) in any order.
        delta: chance of a wrong promise.

    Returns:
        Indices of all thresholds let through, rising. The promise holds for all of them at once, so that any may be
        taken, also the one that saved most on the same prompts.
    """
    return np.flatnonzero(len(p_values) * p_values <= delta)


def conformal_bounds(losses: Floats) -> Floats:
    """Return the smallest eps at which conformal risk control lets each threshold through, (G,) never falling.

    That is (n R + 1) / (n + 1), with R the mean of the losses' running maximum from strict to loose within each prompt.

    Args:
        losses: (P, G) in [0, 1], strict to loose.
    """
    largest = np.maximum.accumulate(losses, axis=1)
    return _conformal_bound(largest.sum(axis=0), len(losses))


def conformal(losses: Floats, eps: float) -> int | None:
    """Return the loosest threshold that conformal risk control lets through; None where there is none.

    Args:
        losses: (P, G) in [0, 1], strict to loose; made monotone, see `conformal_bounds`.
        eps: bound on the expected loss.
    """
    return _last(conformal_bounds(losses) <= eps)


def certify(losses: Floats, *, procedure: Procedure, risk: Risk, eps: float, delta: float = DELTA) -> Certificate:
    """Find the loosest threshold whose risk `procedure` bounds by eps.

    Args:
        losses: (P, G) in [0, 1], strict to loose; a prompt without a loss has NaN throughout and is left out.
        procedure: how.
        risk: what the losses are, for the record.
        eps: bound on the risk.
        delta: chance of a wrong promise; without meaning for conformal.

    Raises:
        ExitbenchError: eps or delta is not between 0 and 1.
    """
    undefined = np.isnan(losses)
    assert losses.ndim == 2, losses.shape
    assert losses.shape[1] > 0, losses.shape
    assert np.array_equal(undefined.all(axis=1), undefined.any(axis=1)), "a loss at all thresholds of a prompt or none"
    assert not np.any((losses < 0) | (losses > 1)), "losses lie in [0, 1]"
    used = losses[~undefined[:, 0]]
    n_prompts, num_thresholds = used.shape
    needed = prompts_needed(procedure, eps=eps, delta=delta, num_thresholds=num_thresholds)
    index, mean_loss, level, reason = None, None, None, None
    if n_prompts < needed:
        reason = f"too few prompts: {_need(procedure, needed, eps, delta, num_thresholds)}, got {n_prompts}"
    else:
        index, levels = _choose(used, procedure, eps, delta)
        means = used.mean(axis=0)
        if index is None:
            reason = _refusal(procedure, float(means[0]), float(levels.min()), eps, delta)
        else:
            mean_loss, level = float(means[index]), float(levels[index])
    return Certificate(
        procedure=procedure,
        risk=risk,
        eps=eps,
        delta=None if procedure == "conformal" else delta,
        n_prompts=n_prompts,
        prompts_needed=needed,
        num_thresholds=num_thresholds,
        index=index,
        mean_loss=mean_loss,
        p_value=None if procedure == "conformal" else level,
        bound=level if procedure == "conformal" else None,
        reason=reason,
    )


def prompts_needed(procedure: Procedure, *, eps: float, delta: float = DELTA, num_thresholds: int) -> int:
    """Return the fewest prompts with which a threshold that never errs could be certified.

    Args:
        procedure: how.
        eps: bound on the risk.
        delta: chance of a wrong promise; without meaning for conformal.
        num_thresholds: G, over which Bonferroni divides delta.

    Raises:
        ExitbenchError: eps or delta is not between 0 and 1.
    """
    if not MIN_EPS <= eps < 1:
        raise ExitbenchError(f"eps is {eps:g}, expected at least {MIN_EPS:g} and below 1; give a share such as 0.01")
    if not 0 < delta < 1:
        raise ExitbenchError(f"delta is {delta:g}, expected more than 0 and less than 1; give a chance such as 0.1")
    too_few, enough = 0, 1
    while not _suffices(enough, procedure, eps, delta, num_thresholds):
        too_few, enough = enough, 2 * enough
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if _suffices(middle, procedure, eps, delta, num_thresholds):
            enough = middle
        else:
            too_few = middle
    return enough


def require_prompts(
    n_prompts: int, *, procedure: Procedure, eps: float, delta: float = DELTA, num_thresholds: int
) -> None:
    """Refuse a calibration that could not promise anything, for users who asked for the promise.

    Args:
        n_prompts: calibration prompts there are.
        procedure: how.
        eps: bound on the risk.
        delta: chance of a wrong promise; without meaning for conformal.
        num_thresholds: G.

    Raises:
        ExitbenchError: too few prompts; or eps or delta is not between 0 and 1.
    """
    needed = prompts_needed(procedure, eps=eps, delta=delta, num_thresholds=num_thresholds)
    if n_prompts < needed:
        need = _need(procedure, needed, eps, delta, num_thresholds)
        raise ExitbenchError(
            f"a {procedure} certificate at eps {eps:g} {need}, got {n_prompts}; use more prompts or a larger eps"
        )


def _choose(losses: Floats, procedure: Procedure, eps: float, delta: float) -> tuple[int | None, Floats]:
    """The loosest threshold let through, and (G,) the smallest delta (conformal: eps) that would let each through."""
    if procedure == "conformal":
        return conformal(losses, eps), conformal_bounds(losses)
    p_values = hoeffding_bentkus(losses.mean(axis=0), n_prompts=len(losses), eps=eps)
    if procedure == "bonferroni":
        kept = bonferroni(p_values, delta)
        return (int(kept[-1]) if len(kept) else None), np.minimum(1.0, len(p_values) * p_values)
    return fixed_sequence(p_values, delta), np.maximum.accumulate(p_values)


def _suffices(n_prompts: int, procedure: Procedure, eps: float, delta: float, num_thresholds: int) -> bool:
    """Whether a threshold without any loss would be let through: asked of the procedures themselves."""
    if procedure == "conformal":
        return bool(_conformal_bound(np.zeros(1), n_prompts) <= eps)
    p_values = np.ones(num_thresholds)
    p_values[:1] = hoeffding_bentkus(np.zeros(1), n_prompts=n_prompts, eps=eps)
    if procedure == "bonferroni":
        return len(bonferroni(p_values, delta)) > 0
    return fixed_sequence(p_values, delta) is not None


def _conformal_bound(total: Floats, n_prompts: int) -> Floats:
    """(n R + 1) / (n + 1), from the sum of losses n R."""
    return (total + 1) / (n_prompts + 1)


def _need(procedure: Procedure, needed: int, eps: float, delta: float, num_thresholds: int) -> str:
    """How many prompts are needed, and the sum behind it."""
    if procedure == "conformal":
        derived = f"1 / {eps:g} - 1 = {1 / eps - 1:.1f}"
    else:
        share, shown = (delta, f"{delta:g}")
        if procedure == "bonferroni":
            share, shown = delta / num_thresholds, f"({delta:g} / {num_thresholds})"
        derived = f"ln {shown} / ln {1 - eps:g} = {math.log(share) / math.log1p(-eps):.1f}"
    return f"needs at least {needed} calibration prompts ({derived})"


def _refusal(procedure: Procedure, strictest: float, least: float, eps: float, delta: float) -> str:
    """Why no threshold is let through, although there are prompts enough."""
    if procedure == "conformal":
        shown = f"smallest bound {least:.3g}, above {eps:g}"
    else:
        shown = f"smallest p-value {least:.3g} after correction, above {delta:g}"
    return f"no threshold satisfies this: {shown}; mean loss of the strictest {strictest:.3g}"


def _last(kept: NDArray[np.bool_]) -> int | None:
    indices = np.flatnonzero(kept)
    return int(indices[-1]) if len(indices) else None
