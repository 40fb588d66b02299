"""The figures that need the recorded signals at every depth; a fast trace has none of them."""

import numpy as np
from numpy.typing import NDArray

from exitbench.score.adaptability import ALPHAS, DEFAULT_ALPHA, SIMILARITIES, adaptability
from exitbench.score.chance import corrected_for_chance, null_suitability
from exitbench.score.from_policies import figures_from_policies
from exitbench.score.scorecard import EasScore
from exitbench.stats.figure import Curve
from exitbench.stats.material import Material, Outcomes
from exitbench.trace.decided import first_match_depths, tv_depths
from exitbench.trace.decision import Depths

__all__ = ["SIGNALS_NEEDED", "figures_from_signals"]

SIGNALS_NEEDED = ("top1_id", "top1_prob", "entropy", "tv_final", "target_logprob", *SIMILARITIES)


def figures_from_signals(material: Material, seed: np.random.SeedSequence) -> Outcomes:
    """Chance, first match, total variation, what policies attain, the curves by depth, and EAS.

    Args:
        material: of a trace that has `SIGNALS_NEEDED`.
        seed: seed of the folds and of the calibration.
    """
    first_match = first_match_depths(material.signal("top1_id"))
    return {
        **_suitability(material, first_match),
        **figures_from_policies(material, seed),
        **_curves(material),
        "bits_per_character": material.per_character(-material.signal("target_logprob")[:, -1] / np.log(2)),
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


def _curves(material: Material) -> dict[str, Curve]:
    trace, top1_id = material.trace, material.signal("top1_id")
    by_depth: dict[str, NDArray[np.generic]] = {
        "agreement": top1_id == top1_id[:, -1:],
        "entropy": material.signal("entropy"),
        "loss": -material.signal("target_logprob"),
        "accuracy": top1_id == trace.target_id[:, None],
    }
    churn = material.mean(top1_id[:, 1:] != top1_id[:, :-1]).curve("depth", range(1, trace.num_blocks + 1))
    return {name: material.depth_curve(values) for name, values in by_depth.items()} | {"top1_churn": churn}


def _eas(material: Material, similarity: str) -> EasScore:
    scores = adaptability(material.signal(similarity), material.prompts, material.bootstrap)
    default = scores.map(lambda by_alpha: by_alpha[..., ALPHAS.index(DEFAULT_ALPHA)])
    return EasScore(
        similarity=similarity,
        alpha=DEFAULT_ALPHA,
        eas=default.figure(),
        by_alpha=scores.curve("alpha", ALPHAS),
    )
