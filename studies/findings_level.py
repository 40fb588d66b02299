"""How often the rule of findings errs where there is nothing, and what three seeds show: figures of docs/findings.md.

    python studies/findings_level.py [DRAWS]

Made-up figures, no model: 0.3 with normal errors of spread 0.01 between models, or skewed ones, or with half of the
variance shared by a family. An error is a verdict of "supported" or "opposite". Prints a table, and one JSON line.
"""

import json
import sys
from collections.abc import Callable

import numpy as np

from exitbench.study.finding_spec import parse_finding
from exitbench.study.findings import Case, judge
from exitbench.study.rows import Row

SPREAD = 0.01
Draw = Callable[[np.random.Generator, int], np.ndarray]


def _row(index: int, value: float, **facts: object) -> Row:
    return Row(
        **{"study": "level", "cell": str(index), "model": f"m{index}", "source": f"m{index}", "workload": "text"},
        **{"on": "text", "readout": "logit", "seed": 0, "status": "ok", "figure": "ees", "value": value},
        **{"command": "", "created": ""},
        **facts,
    )


def normal(rng: np.random.Generator, n: int) -> np.ndarray:
    """Errors as a t-test wants them."""
    return SPREAD * rng.normal(size=n)


def skewed(rng: np.random.Generator, n: int) -> np.ndarray:
    """Exponential errors of the same spread."""
    return SPREAD * (rng.exponential(size=n) - 1)


def groups(seeds: int, effect: float, errors: Draw) -> Callable[[np.random.Generator], list[Row]]:
    """Two kinds of as many models."""

    def rows(rng: np.random.Generator) -> list[Row]:
        values = 0.3 + errors(rng, 2 * seeds)
        values[:seeds] += effect
        return [_row(i, v, kind="dense" if i < seeds else "moe") for i, v in enumerate(values.tolist())]

    return rows


def families(count: int, each: int, slope: float) -> Callable[[np.random.Generator], list[Row]]:
    """Families at dates of their own, whose models err alike."""

    def rows(rng: np.random.Generator) -> list[Row]:
        family = np.repeat(np.arange(count), each)
        shared = normal(rng, count)[family] + normal(rng, count * each)
        years = (rng.uniform(0, 4, count)[family] + rng.uniform(0, 2, count * each)).round(2)
        values = 0.3 + slope * years + shared / np.sqrt(2)
        return [_row(i, v, family=f"f{family[i]}", tags={"year": str(years[i])}) for i, v in enumerate(values.tolist())]

    return rows


def main(draws: int) -> None:
    """Judge made-up studies and count verdicts."""
    kinds = {"question": "kinds", "claim": "-", "against": ["moe"], "smallest_effect": SPREAD / 100, "cluster": None}
    dates = {"question": "generations", "claim": "-", "factor": "tags.year", "smallest_effect": SPREAD / 100}
    dates |= {"trend": "rises"}
    cases = {
        "3 against 3, no effect": (kinds, groups(3, 0, normal)),
        "3 against 3, no effect, skewed": (kinds, groups(3, 0, skewed)),
        "6 against 6, no effect, skewed": (kinds, groups(6, 0, skewed)),
        "4 families of 5, no trend, taken as independent": (dates | {"cluster": None}, families(4, 5, 0)),
        "4 families of 5, no trend": (dates, families(4, 5, 0)),
        "8 families of 5, no trend": (dates, families(8, 5, 0)),
        "3 against 3, effect of 2 spreads": (kinds, groups(3, 2 * SPREAD, normal)),
        "3 against 3, effect of 3 spreads": (kinds, groups(3, 3 * SPREAD, normal)),
        "3 against 3, effect of 4 spreads": (kinds, groups(3, 4 * SPREAD, normal)),
        "5 against 5, effect of 2 spreads": (kinds, groups(5, 2 * SPREAD, normal)),
    }
    table = {}
    for name, (section, rows) in cases.items():
        rng, spec = np.random.default_rng(0), parse_finding(section)
        verdicts = [judge(Case(rows=rows(rng), spec=spec, study="-", title="-")).verdict for _ in range(draws)]
        table[name] = {word: verdicts.count(word) / draws for word in ("supported", "opposite")}
        print(f"{name:50} " + " ".join(f"{word} {share:.3f}" for word, share in table[name].items()), flush=True)
    print(json.dumps({"draws": draws, "share": table}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
