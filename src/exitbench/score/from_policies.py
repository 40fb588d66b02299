"""The figures of what policies attain: the plain threshold, gross, net and certified, and drafts that cost no token."""

from collections.abc import Sequence

import numpy as np

from exitbench.policies.confidence import TopProbability
from exitbench.replay.ceiling import oracles
from exitbench.replay.columns import COLUMNS, CostColumns
from exitbench.replay.crossfit import CrossFit, cross_fit
from exitbench.replay.folds import Folds
from exitbench.replay.frontier import frontier
from exitbench.replay.speculation import project
from exitbench.replay.targets import Target, missing_prompts, rule_for
from exitbench.stats.bootstrap import MIN_PROMPTS, Estimate, ratio
from exitbench.stats.material import Material, Outcomes, certain

__all__ = ["EPS_GRID", "figures_from_policies"]

EPS_GRID = (0.01, 0.05)

_BATCH, _CONTEXT = 1, 512

_NET = {f"nes_{column}": COLUMNS.index(column) for column in ("flops_copy", "bytes_deferred")}
_PERCENTS = tuple(f"{eps * 100:.0f}pct" for eps in EPS_GRID)
_CROSS_FITTED = ("", "_disagreement", "_detectability", "_thresholds")


def figures_from_policies(material: Material, seed: np.random.SeedSequence) -> Outcomes:
    """AES, its oracle and detectability, NES, AES_ltt, the lossless projection and the plain threshold's frontier.

    Args:
        material: of a trace with signals.
        seed: seed of the folds and of the calibration.
    """
    costs = CostColumns(material.trace, batch=_BATCH, context=_CONTEXT, profile=None)
    ceilings = oracles(material, EPS_GRID)
    outcomes: Outcomes = {"frontier": frontier(material, TopProbability())}
    outcomes |= {f"aes_{percent}_oracle": certain(best) for percent, best in zip(_PERCENTS, ceilings, strict=True)}
    if material.prompts.num_prompts < MIN_PROMPTS:
        few = f"cross-fitting needs at least {MIN_PROMPTS} prompts, got {material.prompts.num_prompts}"
        named = [f"aes_{percent}{suffix}" for percent in _PERCENTS for suffix in _CROSS_FITTED]
        named += [f"{name}_{percent}" for percent in _PERCENTS for name in (*_NET, "aes_ltt")]
        return outcomes | dict.fromkeys((*named, "lossless_projection", "lossless_drafts"), few)
    folds = Folds(material.prompts, draws=len(material.bootstrap.weights), seed=seed)
    return outcomes | _attained(material, folds, costs, ceilings) | _projected(material, folds, costs)


def _attained(material: Material, folds: Folds, costs: CostColumns, ceilings: Sequence[Estimate]) -> Outcomes:
    """Of the plain threshold: tuned to each eps, and certified where there are prompts enough."""
    policy = TopProbability()
    tuned = [Target(eps=eps) for eps in EPS_GRID]
    certified = [Target(eps=eps, procedure="fixed-sequence") for eps in EPS_GRID]
    fits = cross_fit(material, policy, folds, rule=rule_for([*tuned, *certified]), columns=costs.of)
    outcomes: Outcomes = {}
    for percent, best, fit in zip(_PERCENTS, ceilings, fits[: len(tuned)], strict=True):
        outcomes |= _of_tuned(material, fit, best, name=f"aes_{percent}")
        outcomes |= {
            f"{name}_{percent}": costs.reasons.get(COLUMNS[index]) or material.figure(fit.values[:, index])
            for name, index in _NET.items()
        }
    num_thresholds = len(policy.grid(material.trace.num_blocks))
    every = np.ones(material.prompts.num_prompts, dtype=np.bool_)
    for percent, target, fit in zip(_PERCENTS, certified, fits[len(tuned) :], strict=True):
        few = missing_prompts(target, folds, learns=False, num_thresholds=num_thresholds, usable=every)
        outcomes[f"aes_ltt_{percent}"] = few or material.figure(fit.values[:, 0])
    return outcomes


def _of_tuned(material: Material, fit: CrossFit, best: Estimate, *, name: str) -> Outcomes:
    savings = material.mean(fit.values[:, 0])
    return {
        name: certain(savings),
        f"{name}_disagreement": material.figure(~material.agrees_at(fit.exit_depth)),
        f"{name}_detectability": savings.map(ratio, best).figure() or "the oracle saves nothing",
        f"{name}_thresholds": [policy.threshold for policy in fit.policies],
    }


def _projected(material: Material, folds: Folds, costs: CostColumns) -> Outcomes:
    drafting = costs.drafting
    if isinstance(drafting, str):
        return dict.fromkeys(("lossless_projection", "lossless_drafts"), drafting)
    projection = project(material, folds, **drafting)
    return {"lossless_projection": certain(projection.speedup), "lossless_drafts": list(projection.drafts)}
