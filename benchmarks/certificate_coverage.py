"""How often does a certified threshold keep its promise, what does it save, and would a naive choice have kept it?

Simulated workloads whose risks are known (`tests/promises.py`), calibrated many times: a typical one, read as token,
answer and task risk, and one at the edge of what the procedures allow, in which every threshold but "never exit" goes
wrong on a little more than a share eps of the prompts. Naive: the loosest threshold whose mean loss on the calibration
prompts is at most eps.

Columns. kept: share of the repetitions in which the true risk is at most eps, with its exact binomial interval (95 %);
fixed-sequence and bonferroni promise at least 1 - delta. mean risk: mean of the true risk over the repetitions;
conformal promises at most eps. saved: made up, equal steps over the thresholds from 0 to half the work. none: share of
the repetitions without a certificate. stays: those, and the ones with one for "never exit" alone. The table is 100
columns wide.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from common import print_result

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from promises import NUM_THRESHOLDS, Outcome, edge, simulate, typical

RISKS = ("token", "answer", "task", "edge")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=4000)
    parser.add_argument("--prompts", type=int, nargs="+", default=[45, 100, 230, 384, 1000])
    parser.add_argument("--eps", type=float, nargs="+", default=[0.01, 0.05])
    parser.add_argument("--risks", nargs="+", choices=RISKS, default=RISKS)
    parser.add_argument("--delta", type=float, default=0.1)
    arguments = parser.parse_args()

    rows = []
    for risk in arguments.risks:
        for eps in arguments.eps:
            losses = edge(eps) if risk == "edge" else typical(risk)
            for num_prompts in arguments.prompts:
                run = simulate(
                    losses,
                    num_prompts=num_prompts,
                    eps=eps,
                    delta=arguments.delta,
                    repetitions=arguments.repetitions,
                )
                same = {"risk": risk, "eps": eps, "n_prompts": num_prompts}
                rows += [same | {"procedure": name} | summary(outcome, eps) for name, outcome in run.items()]
    print_result(
        f"promises kept, {arguments.repetitions} repetitions, {NUM_THRESHOLDS} thresholds, delta {arguments.delta:g}",
        [for_people(row) for row in rows],
        {
            "repetitions": arguments.repetitions,
            "delta": arguments.delta,
            "num_thresholds": NUM_THRESHOLDS,
            "rows": rows,
        },
    )


def summary(outcome: Outcome, eps: float) -> dict[str, float]:
    """What became of one procedure."""
    repetitions = len(outcome.index)
    kept = binomtest(outcome.kept(eps), repetitions)
    interval = kept.proportion_ci()
    return {
        "kept": float(kept.statistic),
        "kept_low": float(interval.low),
        "kept_high": float(interval.high),
        "mean_risk": float(outcome.risk.mean()),
        "mean_risk_error": float(outcome.risk.std(ddof=1) / repetitions**0.5),
        "mean_saved": outcome.saved,
        "without_certificate": float((outcome.index < 0).mean()),
        "without_exit": float((outcome.index <= 0).mean()),
    }


def for_people(row: dict[str, Any]) -> dict[str, Any]:
    """One line of the table."""
    return {
        "promise": f"{row['risk']} {row['eps']:.0%}",
        "n": row["n_prompts"],
        "procedure": row["procedure"],
        "kept": f"{row['kept']:.3f} [{row['kept_low']:.3f}, {row['kept_high']:.3f}]",
        "mean risk": f"{row['mean_risk']:.4f}",
        "saved": f"{row['mean_saved']:.3f}",
        "none": f"{row['without_certificate']:.3f}",
        "stays": f"{row['without_exit']:.3f}",
    }


if __name__ == "__main__":
    main()
