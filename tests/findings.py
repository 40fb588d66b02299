"""Findings that nobody made."""

from typing import Any

from exitbench.stats.evidence import Evidence
from exitbench.study.finding import Comparison, Finding, JudgedModel, Power, Sensitivity


def finding(
    *,
    claim: str = "dense keeps more",
    label: str = "model",
    question: str = "kinds",
    places: tuple[str, ...] | list[str] = ("dense", "moe"),
) -> Finding:
    """Two models in each of two places, one more that was left out, and one comparison."""
    comparison = Comparison(
        name="dense - moe",
        unit="ees",
        claimed="positive",
        judged=True,
        counts={"dense": 2, "moe": 2},
        value=-0.05,
        low=-0.08,
        high=-0.02,
        p=0.0004,
        p_adjusted=0.0008,
        decided_by=["permutation"],
        tests=[Evidence(test="permutation", value=-0.05, p=0.0004, rests_on="exchangeable models")],
        standardised=-1.2,
        standardised_as="Hedges g",
        power=Power(detectable=0.1, reason=None, sentence="two models a group could have shown 0.1"),
        sensitivity=[
            Sensitivity(figure="ees_star", value=0.01, low=-0.1, high=0.1, p=0.8, turn="sign", n_models=4, reason=None)
        ],
        adjusted=None,
        verdict="opposite",
        why="the effect is negative",
        reason=None,
    )
    shared: dict[str, Any] = {"revision": None, "step": None, "stratum": None, "cluster": None, "facts": {}}
    counts: dict[str, Any] = {"low": 0.1, "high": 0.3, "n_tokens": 100, "n_prompts": 20}
    models = [
        JudgedModel(label=f"{label}-{i}", place=places[i % 2], value=0.2 + 0.01 * i, left_out=None, **shared, **counts)
        for i in range(4)
    ]
    models.append(
        JudgedModel(label=f"{label}-4", place=places[0], value=None, left_out="not trained", **shared, **counts)
    )
    return Finding.from_json(
        {
            "study": "example",
            "title": "Example",
            "question": question,
            "claim": claim,
            "spec": {"factor": "kind"},
            "workload": "mini",
            "on": "text",
            "readout": "logit",
            "figure": "ees",
            "models": [model.model_dump() for model in models],
            "comparisons": [comparison.model_dump()],
            "n_models": 4,
            "n_together": 1,
            "smallest_effect": 0.02,
            "alpha": 0.05,
            "verdict": "opposite",
            "why": "dense - moe is negative",
            "expected": None,
            "cautions": ["few models"],
            "command": "exitbench study example.yaml",
            "exitbench": "0.1.0",
        }
    )
