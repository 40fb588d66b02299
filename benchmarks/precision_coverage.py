"""How often does the interval of a run with --precision hold the true EES, and what would plain peeking have done?

Simulated workloads whose EES is known (`tests/peeking.py`), for nine targets, from those that every first look
reaches to those that no look does. Three ways: alpha spent over the looks, as exitbench does it; the same looks at
fixed 95 % intervals; these resampled within categories of any size. Last, the share of workloads in which the
intervals of all looks hold, alpha spent: a bound for whoever stops for another reason. The error is one standard error.
"""

import argparse
import sys
from pathlib import Path

from common import print_result

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from peeking import simulate, worst_coverage

WORKLOADS = {
    "6 categories of 21": {"sizes": [21] * 6},
    "1 category of 160": {"sizes": [160]},
    "6 categories of 80": {"sizes": [80] * 6},
    "8 categories of 20": {"sizes": [20] * 8},
    "13 categories of 10": {"sizes": [10] * 13},
    "60 categories of 2": {"sizes": [2] * 60},
    "100, 40 and 20": {"sizes": [100, 40, 20]},
    "100, 40 and 20, far apart": {"sizes": [100, 40, 20], "spread": 0.2},
    "2 of 80 and 6 of 1, far apart": {"sizes": [80, 80, 1, 1, 1, 1, 1, 1], "spread": 0.2},
}
WAYS = {
    "alpha spent": {},
    "95 % at every look": {"level": 0.95},
    "95 %, within categories": {"level": 0.95, "within": list},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=4000)
    parser.add_argument("--draws", type=int, default=2000)
    arguments = parser.parse_args()

    rows, result = [], {}
    for name, workload in WORKLOADS.items():
        peeks = {
            way: simulate(**workload, **options, repetitions=arguments.repetitions, draws=arguments.draws)
            for way, options in WAYS.items()
        }
        worst = {way: worst_coverage(seen) for way, seen in peeks.items()}
        looks = peeks["alpha spent"].num_prompts
        at_once = peeks["alpha spent"].all_cover()
        rows.append({"prompts": name, "looks": ", ".join(map(str, looks))} | worst | {"all looks at once": at_once})
        result[name] = {"looks": looks, "worst_coverage": worst, "all_looks_at_once": at_once}
    error = (0.95 * 0.05 / arguments.repetitions) ** 0.5
    print_result(
        f"smallest coverage over 9 targets, {arguments.repetitions} repetitions, simulation error {error:.4f}",
        rows,
        {"repetitions": arguments.repetitions, "draws": arguments.draws, "workloads": result},
    )


if __name__ == "__main__":
    main()
