"""Time and memory of several ways on the same documents, in turns in one process."""

import gc
import time

import torch

from exitbench.decode.timing import resident_bytes
from ways import Run, Seen

__all__ = ["CLOCKS", "peaks_beyond_forward", "times_in_turns"]

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
"""What passes, and what this process works, in all its threads: for a machine that others use too, with one thread."""


def times_in_turns(
    runs: dict[str, Run], docs: list[torch.Tensor], repeats: int, clock: str = "wall"
) -> tuple[dict[str, list[float]], dict[str, list[Seen]]]:
    """Seconds of each way over all documents, once a repeat; and what each saw of each document."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    seen: dict[str, list[Seen]] = {}
    for _ in range(repeats):
        for name, run in runs.items():
            start = CLOCKS[clock]()
            seen[name] = [run(ids) for ids in docs]
            times[name].append(CLOCKS[clock]() - start)
    return times, seen


def peaks_beyond_forward(runs: dict[str, Run], ids: torch.Tensor) -> dict[str, float | None]:
    """MiB that each way takes beyond the forward pass of the same document; None where this is no Linux."""
    try:
        return {name: _peak_mib(run, ids) - _peak_mib(runs["forward"], ids) for name, run in runs.items()}
    except (OSError, AttributeError):
        return dict.fromkeys(runs)


def _peak_mib(run: Run, ids: torch.Tensor) -> float:
    """Most MiB that were resident during a run."""
    gc.collect()
    return resident_bytes(lambda: run(ids))[1] / 2**20
