"""The figures that need no more than every token's final prediction and decision depth: all that a fast trace holds."""

import numpy as np

from exitbench.score.loops import looped_tokens
from exitbench.score.scorecard import CategoryScore
from exitbench.stats.figure import Figure
from exitbench.stats.material import Material, Outcomes
from exitbench.trace.decided import first_match_depths

__all__ = ["BATCH_SIZES", "figures_from_decisions"]

BATCH_SIZES = (1, 4, 16, 64)


def figures_from_decisions(material: Material) -> Outcomes:
    """EES and its curves, EES by category and on part of the tokens, and shares of tokens."""
    return {
        "ees": material.figure(material.saved),
        "ees_blocks": material.figure(material.saved_blocks),
        "ees_per_character": _per_character(material),
        **_quality(material),
        **_curves(material),
        "categories": _categories(material),
    }


def _per_character(material: Material) -> Figure | str:
    """EES with each token counted by its characters."""
    characters = material.characters
    return characters if isinstance(characters, str) else material.per_character(material.saved * characters)


def _quality(material: Material) -> Outcomes:
    trace = material.trace
    right = trace.final_id == trace.target_id
    if material.on_text:
        of_answers = "only for the model's own answers; this trace is on given text"
        return {
            "ees_correct": material.mean(material.saved, right).figure() or "the full model gets no token right",
            "generated_mismatch": of_answers,
            "loop_share": of_answers,
            "ees_without_loops": of_answers,
        }
    looped = looped_tokens(trace)
    return {
        "ees_correct": "only on given text; here the target is the model's own answer",
        "generated_mismatch": material.figure(~right),
        "loop_share": material.figure(looped),
        "ees_without_loops": material.mean(material.saved, ~looped).figure() or "every token lies in a loop",
    }


def _curves(material: Material) -> Outcomes:
    trace = material.trace
    depths = np.arange(trace.num_blocks + 1)
    decided = material.mean(trace.decision_depth[:, None] <= depths)
    costs = np.asarray(trace.manifest.shape.block_costs)
    batch = decided.map(lambda share: np.stack([share[..., :-1] ** size @ costs for size in BATCH_SIZES], axis=-1))
    return {"decided": decided.curve("depth", depths.tolist()), "batch": batch.curve("batch", BATCH_SIZES)}


def _categories(material: Material) -> dict[str, CategoryScore]:
    trace = material.trace
    first = material.rho[first_match_depths(material.signal("top1_id"))] if material.has_signals else None
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
            ees=material.mean(material.saved, keep).figure(),
            ees_blocks=material.mean(material.saved_blocks, keep).figure(),
            ees_first_match=None if first is None else material.mean(first, keep).figure(),
        )
    return scores
