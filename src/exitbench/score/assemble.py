"""From a trace to its score card.

One pass: decide depths per token, sum them per prompt, and let the shared bootstrap turn sums into figures.
Every group of figures is one function from `_Material` to named outcomes, an outcome being a figure or the
reason why there is none. Definitions and equations live with the modules that implement them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exitbench.errors import TraceError
from exitbench.score.adaptability import ALPHAS, DEFAULT_ALPHA, SIMILARITIES, adaptability
from exitbench.score.attainable import (
    THRESHOLDS,
    ThresholdTotals,
    attain,
    oracle,
    threshold_totals,
)
from exitbench.score.bootstrap import LEVEL, MIN_PROMPTS, Bootstrap, Estimate, Prompts, draw_weights, ratio, strata
from exitbench.score.chance import corrected_for_chance, null_suitability
from exitbench.score.decided import decision_depths, first_match_depths, remaining_costs, tv_depths
from exitbench.score.figure import Curve, Figure
from exitbench.score.loops import looped_tokens
from exitbench.score.scorecard import CategoryScore, EasScore, Frontier, ScoreCard
from exitbench.score.verdict import verdict
from exitbench.trace.table import Trace

__all__ = ["BATCH_SIZES", "EPS_GRID", "ees", "score"]

BATCH_SIZES = (1, 4, 16, 64)
EPS_GRID = (0.01, 0.05)
DRAWS = 2000
MIN_OUTSIDE = 5
"""Resamples outside an interval, of which fewer cannot carry it: those of 100 draws at 95 %."""

_WITH_POLICIES = "not computed: needs exit policies, which this version does not have"
_SIGNALS = ("top1_id", "top1_prob", "entropy", "tv_final", "target_logprob", *SIMILARITIES)

Floats = NDArray[np.float64]
Outcomes = dict[str, Figure | str]
"""Field of the card -> figure, or the reason why there is none."""


@dataclass(frozen=True, kw_only=True)
class _Material:
    """What every group of figures is made from."""

    trace: Trace
    prompts: Prompts
    bootstrap: Bootstrap
    rho: Floats
    """(L + 1,) share of the blocks' work behind each depth."""
    decided: NDArray[np.int64]
    """(N,) decision depths."""
    first_match: NDArray[np.int64]
    """(N,) first matching depths."""

    @property
    def on_text(self) -> bool:
        return self.trace.manifest.settings.on == "text"

    @property
    def rho_blocks(self) -> Floats:
        """(L + 1,) rho where every block counts alike."""
        num_blocks = self.trace.num_blocks
        return np.arange(num_blocks, -1, -1) / num_blocks

    def mean(self, values: NDArray[Any], keep: NDArray[np.bool_] | None = None) -> Estimate:
        """Estimate the mean of `values` (N, *K) over tokens, over those in `keep` if given."""
        return self.bootstrap.mean(self.prompts.sums(values, keep), self.prompts.counts(keep))

    def figure(self, values: NDArray[Any]) -> Figure:
        """Estimate a mean over all tokens."""
        return _certain(self.mean(values))

    def signal(self, name: str) -> NDArray[Any]:
        """Return the signal `name`, (N, L + 1)."""
        return self.trace.signals[name]

    def depth_curve(self, values: NDArray[Any]) -> Curve:
        """Estimate the mean of `values` (N, L + 1) at each depth."""
        return self.mean(values).curve("depth", range(self.trace.num_blocks + 1))


def score(trace: Trace, *, seed: int = 0, draws: int = DRAWS) -> ScoreCard:
    """Compute every figure of a trace.

    Args:
        trace: the recorded signals.
        seed: seed of the bootstrap, the folds and the calibration; equal seeds give equal cards.
        draws: bootstrap resamples, at least 100; more where a precision was asked for.

    Raises:
        TraceError: no tokens, a missing signal or too few draws.
    """
    level = LEVEL if trace.precision is None else trace.precision.level
    _check(trace, draws, level)
    bootstrap_seed, attain_seed = np.random.SeedSequence(seed).spawn(2)
    material = _gather(trace, draws, bootstrap_seed, level=level, pooled=trace.precision is not None)
    totals = threshold_totals(
        material.signal("top1_id"),
        material.signal("top1_prob"),
        trace.manifest.shape.block_costs,
        material.prompts,
    )
    outcomes = _suitability(material) | _quality(material) | _not_computed()
    attained, thresholds = _attainable(material, totals, attain_seed)
    outcomes |= attained
    figures = {name: None if isinstance(outcome, str) else outcome for name, outcome in outcomes.items()}
    reasons = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, str)}
    if trace.precision is None:
        reasons["precision"] = "not asked for: every prompt was to be used"
    for name, chosen in thresholds.items():
        if chosen is None:
            reasons[name] = reasons["aes_1pct"]
    return ScoreCard.model_validate(
        _identity(material)
        | {"seed": seed, "draws": draws, "reasons": reasons, "verdict": verdict(figures), "precision": trace.precision}
        | figures
        | thresholds
        | _curves(material)
        | {
            "frontier": _frontier(material, totals),
            "eas": [_eas(material, name) for name in SIMILARITIES],
            "categories": _categories(material),
        }
    )


def ees(trace: Trace, *, level: float, seed: int = 0) -> Figure:
    """EES alone, as `score` gives it where a precision was asked for.

    Args:
        trace: the recorded signals.
        level: confidence level of the interval.
        seed: as for `score`.

    Raises:
        TraceError: no tokens, or a missing signal.
    """
    _check(trace, DRAWS, level)
    bootstrap_seed, _ = np.random.SeedSequence(seed).spawn(2)
    material = _gather(trace, DRAWS, bootstrap_seed, level=level, pooled=True)
    return material.figure(material.rho[material.decided])


def _check(trace: Trace, draws: int, level: float) -> None:
    if trace.num_tokens == 0:
        raise TraceError(
            f"trace of {trace.manifest.model.name!r} on {trace.manifest.workload.name!r} holds no tokens: "
            f"{len(trace.failures)} of {len(trace.samples)} samples failed; trace again with other prompts"
        )
    missing = [name for name in _SIGNALS if name not in trace.signals]
    if missing:
        raise TraceError(f"trace lacks the signals {', '.join(missing)}, which scoring needs; trace again")
    least = round(MIN_OUTSIDE / (1 - level))
    if draws < least:
        raise TraceError(f"draws must be at least {least} for a {100 * level:g} % interval, got {draws}")


def _gather(trace: Trace, draws: int, seed: np.random.SeedSequence, *, level: float, pooled: bool) -> _Material:
    prompts = Prompts.of(trace)
    top1_id: NDArray[Any] = trace.signals["top1_id"]
    within = strata(prompts.categories) if pooled else prompts.categories
    weights = draw_weights(within, draws=draws, rng=np.random.default_rng(seed))
    return _Material(
        trace=trace,
        prompts=prompts,
        bootstrap=Bootstrap(weights=weights, level=level),
        rho=remaining_costs(trace.manifest.shape.block_costs),
        decided=decision_depths(top1_id),
        first_match=first_match_depths(top1_id),
    )


def _certain(estimate: Estimate) -> Figure:
    """Return the figure of an estimate over all tokens, which always exists."""
    figure = estimate.figure()
    assert figure is not None
    return figure


def _identity(material: _Material) -> dict[str, Any]:
    trace = material.trace
    copied = ("model", "shape", "facts", "workload", "settings", "libraries", "environment", "command", "created")
    return {name: getattr(trace.manifest, name) for name in copied} | {
        "target": "text" if material.on_text else "own answer",
        "n_tokens": trace.num_tokens,
        "n_prompts": material.prompts.num_prompts,
        "n_failed": len(trace.failures),
    }


def _suitability(material: _Material) -> Outcomes:
    rho, tv_final = material.rho, material.signal("tv_final")
    ees = material.mean(rho[material.decided])
    null = null_suitability(material.signal("top1_id"), rho, material.prompts, material.bootstrap)
    star = corrected_for_chance(ees, null)
    return {
        "ees": _certain(ees),
        "ees_blocks": material.figure(material.rho_blocks[material.decided]),
        "ees_null": null.figure() or "needs tokens of at least two prompts",
        "ees_star": star.figure() or "needs the null, and a null below 1",
        "ees_first_match": material.figure(rho[material.first_match]),
        "ees_tv_10": material.figure(rho[tv_depths(tv_final, 0.1)]),
        "ees_tv_30": material.figure(rho[tv_depths(tv_final, 0.3)]),
    }


def _quality(material: _Material) -> Outcomes:
    trace, saved = material.trace, material.rho[material.decided]
    right = material.signal("top1_id")[:, -1] == trace.target_id
    if material.on_text:
        of_answers = "only for the model's own answers; this trace is on given text"
        return {
            "ees_correct": material.mean(saved, right).figure() or "the full model gets no token right",
            "generated_mismatch": of_answers,
            "loop_share": of_answers,
            "ees_without_loops": of_answers,
        }
    looped = looped_tokens(trace)
    return {
        "ees_correct": "only on given text; here the target is the model's own answer",
        "generated_mismatch": material.figure(~right),
        "loop_share": material.figure(looped),
        "ees_without_loops": material.mean(saved, ~looped).figure() or "every token lies in a loop",
    }


def _not_computed() -> Outcomes:
    return dict.fromkeys(("nes", "lossless_projection", "aes_ltt", "max_skip"), _WITH_POLICIES)


def _attainable(
    material: _Material, totals: ThresholdTotals, seed: np.random.SeedSequence
) -> tuple[Outcomes, dict[str, list[float | None] | None]]:
    names = [f"aes_{eps * 100:.0f}pct" for eps in EPS_GRID]
    counts = material.prompts.depth_counts(material.first_match, material.trace.num_blocks + 1)
    oracles = [oracle(counts, material.rho, material.bootstrap, eps=eps) for eps in EPS_GRID]
    outcomes: Outcomes = {}
    for name, best in zip(names, oracles, strict=True):
        outcomes[f"{name}_oracle"] = _certain(best)
    if material.prompts.num_prompts < MIN_PROMPTS:
        few = f"cross-fitting needs at least {MIN_PROMPTS} prompts, got {material.prompts.num_prompts}"
        for name in names:
            outcomes |= dict.fromkeys((name, f"{name}_disagreement", f"{name}_detectability"), few)
        return outcomes, {f"{name}_thresholds": None for name in names}
    thresholds: dict[str, list[float | None] | None] = {}
    attained = attain(totals, material.prompts, material.bootstrap, eps_grid=EPS_GRID, seed=seed)
    for name, got, best in zip(names, attained, oracles, strict=True):
        outcomes[name] = _certain(got.savings)
        outcomes[f"{name}_disagreement"] = _certain(got.disagreement)
        detectability = got.savings.map(ratio, best)
        outcomes[f"{name}_detectability"] = detectability.figure() or "the oracle saves nothing"
        thresholds[f"{name}_thresholds"] = list(got.thresholds)
    return outcomes, thresholds


def _curves(material: _Material) -> dict[str, Curve]:
    trace, top1_id = material.trace, material.signal("top1_id")
    depths = np.arange(trace.num_blocks + 1)
    decided = material.mean(material.decided[:, None] <= depths)
    costs = np.asarray(trace.manifest.shape.block_costs)
    batch = decided.map(lambda share: np.stack([share[..., :-1] ** size @ costs for size in BATCH_SIZES], axis=-1))
    return {
        "decided": decided.curve("depth", range(trace.num_blocks + 1)),
        "agreement": material.depth_curve(top1_id == top1_id[:, -1:]),
        "entropy": material.depth_curve(material.signal("entropy")),
        "loss": material.depth_curve(-material.signal("target_logprob")),
        "accuracy": material.depth_curve(top1_id == trace.target_id[:, None]),
        "batch": batch.curve("batch", BATCH_SIZES),
    }


def _frontier(material: _Material, totals: ThresholdTotals) -> Frontier:
    def curve(sums: Floats) -> Curve:
        return material.bootstrap.mean(sums, totals.tokens).curve("threshold", THRESHOLDS.tolist())

    return Frontier(savings=curve(totals.savings), disagreement=curve(totals.disagreements))


def _eas(material: _Material, similarity: str) -> EasScore:
    scores = adaptability(material.signal(similarity), material.prompts, material.bootstrap)
    default = scores.map(lambda by_alpha: by_alpha[..., ALPHAS.index(DEFAULT_ALPHA)])
    return EasScore(
        similarity=similarity,
        alpha=DEFAULT_ALPHA,
        eas=default.figure(),
        by_alpha=scores.curve("alpha", ALPHAS),
    )


def _categories(material: _Material) -> dict[str, CategoryScore]:
    trace = material.trace
    row_category = np.asarray(material.prompts.categories)[material.prompts.row_prompt]
    category_of = {sample.id: sample.category for sample in trace.samples}
    scores = {}
    for name in dict.fromkeys(sample.category for sample in trace.samples):
        keep = row_category == name
        counts = material.prompts.counts(keep)
        scores[name] = CategoryScore(
            n_tokens=int(counts.sum()),
            n_prompts=int((counts > 0).sum()),
            n_failed=sum(category_of[failure.sample_id] == name for failure in trace.failures),
            ees=material.mean(material.rho[material.decided], keep).figure(),
            ees_blocks=material.mean(material.rho_blocks[material.decided], keep).figure(),
            ees_first_match=material.mean(material.rho[material.first_match], keep).figure(),
        )
    return scores
