"""Policies that learn from calibration tokens how far a depth can be trusted.

Both give an estimate of the chance that the prediction at a depth is the full model's, so their thresholds are shares.
They are fitted at each probe depth on its own: shallow depths can be certain and wrong. scikit-learn does the fitting;
what it found is kept as plain numbers, so that a policy is JSON and needs no scikit-learn to run.

Shapes: N tokens, K probe depths, F features.
"""

from collections.abc import Sized
from itertools import pairwise
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator
from scipy.special import expit

from exitbench.errors import ExitbenchError
from exitbench.policies.grids import PROBABILITIES
from exitbench.policies.policy import Calibration, ExitPolicy, Floats, Seen, State

__all__ = ["Gate", "PerDepthThresholds"]

_ITERATIONS = 500


class _Trained(ExitPolicy):
    """What the two have in common: probe depths they were fitted at, and thresholds on a chance."""

    is_trained: ClassVar[bool] = True

    fitted_at: tuple[int, ...] = ()
    """(K,) probe depths."""

    @property
    def _of_depths(self) -> Sized:
        """What was fitted, one entry a depth."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if len(self._of_depths) != len(self.fitted_at):
            raise ValueError(f"what was fitted is there for {len(self._of_depths)} depths of {len(self.fitted_at)}")
        if any(later <= depth for depth, later in pairwise(self.fitted_at)):
            raise ValueError(f"the depths it was fitted at must rise, got {self.fitted_at}")
        return self

    @classmethod
    def grid(cls, num_blocks: int) -> Floats:
        """Chances."""
        return PROBABILITIES

    def _place(self, seen: Seen) -> list[int]:
        """Where among the fitted depths the probe depths so far are.

        Raises:
            ExitbenchError: at some of them it was never fitted.
        """
        known = {depth: place for place, depth in enumerate(self.fitted_at)}
        missing = [int(depth) for depth in seen.depths if depth not in known]
        if missing:
            raise ExitbenchError(
                f"policy {self.name!r} was fitted at depths {', '.join(map(str, self.fitted_at)) or 'none'}, not at "
                f"{', '.join(map(str, missing))}; "
                f"fit it with 'exitbench replay TRACE --policy {self.name} --save-policies DIR'"
            )
        return [known[int(depth)] for depth in seen.depths]


class PerDepthThresholds(_Trained):
    """Leave when the top-1 probability reaches a threshold of its own at each depth.

    The threshold of depth d is the probability from which on, in calibration, a given share of tokens agreed with the
    full model: an isotonic regression of agreement on probability, one a depth. One number, that share, sets them all.
    Source: a threshold per exit is as old as BranchyNet (arXiv 1709.01686); tying them by their calibrated accuracy
    follows the idea of consistent early exits in CALM (arXiv 2207.07061).
    """

    name: ClassVar[str] = "per-depth"
    signals: ClassVar[tuple[str, ...]] = ("top1_prob",)

    knots: tuple[tuple[tuple[float, float], ...], ...] = ()
    """(K, any) points (probability, share that agrees) between which is interpolated; the probabilities rise."""

    @property
    def _of_depths(self) -> Sized:
        return self.knots

    @model_validator(mode="after")
    def _interpolable(self) -> Self:
        for points in self.knots:
            if not points or any(later[0] <= point[0] for point, later in pairwise(points)):
                raise ValueError(f"knots of a depth must be points of rising probability, got {points}")
        return self

    def scores(self, seen: Seen) -> Floats:
        """Estimated chance of agreement."""
        probability = np.asarray(seen.signals["top1_prob"], dtype=np.float64)
        places = self._place(seen)
        columns = [np.interp(probability[:, k], *np.array(self.knots[place]).T) for k, place in enumerate(places)]
        return np.stack(columns, axis=1) if columns else np.empty(probability.shape)

    def fitted(self, calibration: Calibration) -> Self:
        """One isotonic regression a depth."""
        from sklearn.isotonic import IsotonicRegression

        probability = np.asarray(calibration.seen.signals["top1_prob"], dtype=np.float64)
        knots = []
        for k in range(probability.shape[1]):
            fit = IsotonicRegression(y_min=0, y_max=1).fit(probability[:, k], calibration.agrees[:, k])
            points = zip(fit.X_thresholds_.tolist(), fit.y_thresholds_.tolist(), strict=True)
            knots.append(tuple(points))
        at = tuple(int(depth) for depth in calibration.seen.depths)
        return self.model_copy(update={"knots": tuple(knots), "fitted_at": at, "fitted_on": calibration.weights_sha256})


class Gate(_Trained):
    """Leave when a logistic regression on a few features of the prediction says so (AdaInfer, arXiv 2403.02181).

    Features: margin, top-1 probability, and the change of both since the probe before (0 at the first). AdaInfer trains
    one classifier for all blocks; here each probe depth has its own.
    """

    name: ClassVar[str] = "gate"
    signals: ClassVar[tuple[str, ...]] = ("margin", "top1_prob")
    state: ClassVar[tuple[State, ...]] = ("earlier probes",)
    flops_per_probe: ClassVar[int] = 12

    weights: tuple[tuple[float, float, float, float, float], ...] = ()
    """(K, F + 1) of the features, and the constant last."""

    @property
    def _of_depths(self) -> Sized:
        return self.weights

    def scores(self, seen: Seen) -> Floats:
        """Estimated chance of agreement."""
        features_NKF = _features(seen)
        places = self._place(seen)
        weights_KF = np.array([self.weights[place] for place in places]).reshape(len(places), features_NKF.shape[2] + 1)
        return np.asarray(expit((features_NKF * weights_KF[:, :-1]).sum(-1) + weights_KF[:, -1]))

    def fitted(self, calibration: Calibration) -> Self:
        """One logistic regression a depth; a constant where all tokens agree, or none."""
        from threadpoolctl import threadpool_limits

        features_NKF = _features(calibration.seen)
        with threadpool_limits(1):  # on so small a problem, threads do little but wait for one another
            weights = [_gate(features_NKF[:, k], calibration.agrees[:, k]) for k in range(features_NKF.shape[1])]
        at = tuple(int(depth) for depth in calibration.seen.depths)
        return self.model_copy(
            update={"weights": tuple(weights), "fitted_at": at, "fitted_on": calibration.weights_sha256}
        )


def _gate(features_NF: Floats, agrees: NDArray[np.bool_]) -> tuple[float, ...]:
    """(F + 1,) weights of one depth."""
    from sklearn.linear_model import LogisticRegression

    if agrees.all() or not agrees.any():
        chance = (agrees.sum() + 0.5) / (len(agrees) + 1)
        return (*[0.0] * int(features_NF.shape[1]), float(np.log(chance / (1 - chance))))
    fit = LogisticRegression(max_iter=_ITERATIONS).fit(features_NF, agrees)
    return tuple(float(weight) for weight in (*fit.coef_[0], fit.intercept_[0]))


def _features(seen: Seen) -> NDArray[np.float64]:
    """(N, K, F) of every token at every probe so far."""
    values_NKS = np.stack([np.asarray(seen.signals[name], dtype=np.float64) for name in Gate.signals], axis=-1)
    change = np.diff(values_NKS, axis=1, prepend=values_NKS[:, :1])
    return np.concatenate([values_NKS, change], axis=-1)
