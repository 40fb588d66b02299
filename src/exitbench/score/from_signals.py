"""The figures that need the recorded signals at every depth; a fast trace has none of them."""

import numpy as np
from numpy.typing import NDArray

from exitbench.policies.confidence import TopProbability
from exitbench.replay.ceiling import oracle
from exitbench.replay.crossfit import Folds, cross_fit
from exitbench.replay.frontier import frontier
from exitbench.replay.targets import Target, rule_for
from exitbench.score.adaptability import ALPHAS, DEFAULT_ALPHA, SIMILARITIES, adaptability
from exitbench.score.chance import corrected_for_chance, null_suitability
from exitbench.score.scorecard import EasScore
from exitbench.stats.bootstrap import MIN_PROMPTS, ratio
from exitbench.stats.material import Material, Outcomes, certain
from exitbench.trace.decided import first_match_depths, tv_depths
from exitbench.trace.decision import Depths

__all__ = ["EPS_GRID", "SIGNALS_NEEDED", "figures_from_signals"]

EPS_GRID = (0.01, 0.05)
SIGNALS_NEEDED = ("top1_id", "top1_prob", "entropy", "tv_final", "target_logprob", *SIMILARITIES)


def figures_from_signals(material: Material, seed: np.random.SeedSequence) -> Outcomes:
    """Chance, first match, total variation, what a threshold attains, the curves by depth, and EAS.

    Args:
        material: of a trace that has `SIGNALS_NEEDED`.
        seed: seed of the folds and of the calibration.
    """
    first_match = first_match_depths(material.signal("top1_id"))
    return {
        **_suitability(material, first_match),
        **_attainable(material, first_match, seed),
        **_curves(material),
        "frontier": frontier(material, TopProbability()),
        "eas": [_eas(material, name) for name in SIMILARITIES],
    }


def _suitability(material: Material, first_match: Depths) -> Outcomes:
    rho, tv_final = material.rho, material.signal("tv_final")
    null = null_suitability(material.signal("top1_id"), rho, material.prompts, material.bootstrap)
    star = corrected_for_chance(material.mean(material.saved), null)
    return {
        "ees_null": null.figure() or "needs tokens of at least two prompts",
        "ees_star": star.figure() or "needs the null, and a null below 1",
        "ees_first_match": material.figure(rho[first_match]),
        "ees_tv_10": material.figure(rho[tv_depths(tv_final, 0.1)]),
        "ees_tv_30": material.figure(rho[tv_depths(tv_final, 0.3)]),
    }


def _attainable(material: Material, first_match: Depths, seed: np.random.SeedSequence) -> Outcomes:
    names = [f"aes_{eps * 100:.0f}pct" for eps in EPS_GRID]
    counts = material.prompts.depth_counts(first_match, material.trace.num_blocks + 1)
    oracles = [oracle(counts, material.rho, material.bootstrap, eps=eps) for eps in EPS_GRID]
    outcomes: Outcomes = {f"{name}_oracle": certain(best) for name, best in zip(names, oracles, strict=True)}
    if material.prompts.num_prompts < MIN_PROMPTS:
        few = f"cross-fitting needs at least {MIN_PROMPTS} prompts, got {material.prompts.num_prompts}"
        for name in names:
            cross_fitted = (name, f"{name}_disagreement", f"{name}_detectability", f"{name}_thresholds")
            outcomes |= dict.fromkeys(cross_fitted, few)
        return outcomes
    folds = Folds(material.prompts, draws=len(material.bootstrap.weights), seed=seed)
    rho, rule = material.rho[:, None], rule_for([Target(eps=eps) for eps in EPS_GRID])
    attained = cross_fit(material, TopProbability(), folds, rule=rule, columns=lambda _: rho)
    for name, got, best in zip(names, attained, oracles, strict=True):
        savings = material.mean(got.values[:, 0])
        outcomes[name] = certain(savings)
        outcomes[f"{name}_disagreement"] = material.figure(~material.agrees_at(got.exit_depth))
        outcomes[f"{name}_detectability"] = savings.map(ratio, best).figure() or "the oracle saves nothing"
        outcomes[f"{name}_thresholds"] = [policy.threshold for policy in got.policies]
    return outcomes


def _curves(material: Material) -> Outcomes:
    trace, top1_id = material.trace, material.signal("top1_id")
    by_depth: dict[str, NDArray[np.generic]] = {
        "agreement": top1_id == top1_id[:, -1:],
        "entropy": material.signal("entropy"),
        "loss": -material.signal("target_logprob"),
        "accuracy": top1_id == trace.target_id[:, None],
    }
    return {name: material.depth_curve(values) for name, values in by_depth.items()}


def _eas(material: Material, similarity: str) -> EasScore:
    scores = adaptability(material.signal(similarity), material.prompts, material.bootstrap)
    default = scores.map(lambda by_alpha: by_alpha[..., ALPHAS.index(DEFAULT_ALPHA)])
    return EasScore(
        similarity=similarity,
        alpha=DEFAULT_ALPHA,
        eas=default.figure(),
        by_alpha=scores.curve("alpha", ALPHAS),
    )
