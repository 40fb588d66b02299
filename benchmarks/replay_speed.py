"""How long does it take to replay a policy at every threshold of a grid?

Synthetic tokens whose confidence rises with depth, noisily, on one core: the scores of the plain threshold, and the
sweep over all thresholds. Memory is what numpy holds at most beyond what it was given, in a run of its own.
"""

import argparse
import os
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

from common import print_result, quantiles
from exitbench.policies import Seen
from exitbench.policies.confidence import TopProbability
from exitbench.replay.sweep import sweep
from exitbench.stats.bootstrap import Prompts

TOKENS_A_PROMPT = 1000
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def made_up(num_tokens: int, num_probes: int, rng: np.random.Generator) -> tuple[Seen, np.ndarray]:
    """Tokens of different difficulty, and whether each depth agrees with the full model: as often as it is sure."""
    rise = np.linspace(-2, 4, num_probes, dtype=np.float32)
    noise = rng.standard_normal((num_tokens, num_probes), dtype=np.float32)
    noise += rng.standard_normal((num_tokens, 1), dtype=np.float32) + rise
    prob = 1 / (1 + np.exp(-noise))
    agrees = np.ones((num_tokens, num_probes + 2), dtype=np.bool_)
    agrees[:, 1:-1] = rng.random((num_tokens, num_probes), dtype=np.float32) < prob
    seen = Seen(
        depths=np.arange(1, num_probes + 1),
        num_blocks=num_probes + 1,
        answer_position=np.arange(num_tokens) % TOKENS_A_PROMPT,
        answer_limit=TOKENS_A_PROMPT,
        signals={"top1_prob": prob},
    )
    return seen, agrees


def peak_mib(run: Callable[[], Any]) -> float:
    """Most MiB allocated during a run, its result included."""
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--depths", type=int, default=32)
    parser.add_argument("--thresholds", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="'processor' on a machine that others use too")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # Linux alone; numpy uses one thread for all of this anyway
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    seen, agrees = made_up(arguments.tokens, arguments.depths, np.random.default_rng(0))
    row_prompt = np.arange(arguments.tokens) // TOKENS_A_PROMPT
    prompts = Prompts(row_prompt=row_prompt, categories=("made up",) * int(row_prompt[-1] + 1))
    rho = np.linspace(1, 0, seen.num_blocks + 1)[:, None]
    grid = np.linspace(0, 1, arguments.thresholds)
    scores = TopProbability().scores(seen)
    runs: dict[str, Callable[[], Any]] = {
        "scores": lambda: TopProbability().scores(seen),
        "sweep": lambda: sweep(scores, seen.depths, agrees, rho, prompts, grid),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(arguments.repeats + 1):  # the first one warms up
        for name, run in runs.items():
            start = CLOCKS[arguments.clock]()
            run()
            times[name] += [CLOCKS[arguments.clock]() - start] if repeat else []
    steps = {name: {"time_s": quantiles(times[name]), "peak_mib": peak_mib(run)} for name, run in runs.items()}
    rows = [
        {
            "step": name,
            "time, s": step["time_s"]["median"],
            "spread": f"{step['time_s']['min']:.3g} to {step['time_s']['max']:.3g}",
            "ns a token and depth": 1e9 * step["time_s"]["median"] / scores.size,
            "peak MiB beyond inputs": step["peak_mib"],
        }
        for name, step in steps.items()
    ]
    sizes = {"n_tokens": arguments.tokens, "n_depths": arguments.depths, "n_thresholds": arguments.thresholds}
    print_result(
        "replay at every threshold, one core",
        rows,
        {
            **sizes,
            "n_prompts": prompts.num_prompts,
            "n_repeats": arguments.repeats,
            "clock": arguments.clock,
            "steps": steps,
        },
    )


if __name__ == "__main__":
    main()
