"""Rows of made-up studies, for tests that judge them."""

import numpy as np

from exitbench.study.finding_spec import parse_finding
from exitbench.study.findings import Case, judge
from study_rows import row

__all__ = ["DENSE", "case", "judged", "model_row", "models_of", "rows_of"]

DENSE = {"dense": 0.30, "moe": 0.20}
"""Means of two kinds of which the claim holds."""


def model_row(label="m", value=0.2, figure="ees", **changes):
    """One figure of one model; missing, with a reason, where there is no value."""
    given = {
        "study": "made-up",
        "cell": f"cell-{label}",
        "model": label,
        "source": f"hub/{label}",
        "workload": "text",
        "low": None if value is None else value - 0.01,
        "high": None if value is None else value + 0.01,
        "n_tokens": 1_000,
        "n_prompts": 20,
        "reason": None if value is not None else "there is none",
        "command": "exitbench study made-up.yaml",
    }
    return row(figure, value, **(given | changes))


def rows_of(figures, **shared):
    """Rows of models: label -> (value, what else the row says)."""
    return [model_row(label, value, **(shared | more)) for label, (value, more) in figures.items()]


def models_of(means, spread=0.004, seeds=3, **shared):
    """Models of each kind about its mean, at fixed distances from it."""
    around = spread * np.linspace(-1, 1, seeds) if seeds > 1 else [0.0]
    return rows_of(
        {f"{kind}-{i}": (mean + e, {"kind": kind}) for kind, mean in means.items() for i, e in enumerate(around)},
        **shared,
    )


def case(rows, question="kinds", **section):
    """A finding to be judged; two kinds of independent models unless the section says otherwise."""
    least = {"question": question, "claim": "as claimed", "smallest_effect": 0.02, "cluster": None}
    if question == "kinds":
        least |= {"against": ["moe"]}
    return Case(rows=rows, spec=parse_finding(least | section), study="made-up", title="Made up")


def judged(rows, question="kinds", **section):
    """The finding of one case on its own."""
    return judge(case(rows, question, **section), command="exitbench findings made-up")
