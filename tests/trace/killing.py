"""Kills trace runs with SIGKILL and lets them resume; run by `test_killed.py` in a process of its own.

    python killing.py MODEL WORK

The model is loaded once; every run is a forked child, so that a kill costs no start-up. Killed runs end up in the
folders `WORK/before-I` (killed just before the I-th file gets its name), `WORK/after-I` (just after), `WORK/always`
(killed after every single file, until done) and `WORK/random-I` (killed at random moments). `WORK/undisturbed` is the
reference. Prints the number of runs that were killed.
"""

import gc
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from exitbench.config import TraceOptions
from exitbench.models.load import LoadedModel, load
from exitbench.trace.collect import collect
from exitbench.workloads import Sample, Workload

NUM_SAMPLES = 4
SAMPLES = tuple(Sample(id=f"s{i}", category="a", turns=(f"Question {i}?",) * (1 + i % 2)) for i in range(NUM_SAMPLES))
PROMPTS = Workload(name="killed", version="1", licence=None, kind="prompts", samples=SAMPLES)
OPTIONS = TraceOptions(max_new_tokens=4, generation_batch=2)
NUM_FILES = 2 + NUM_SAMPLES // 2 + NUM_SAMPLES + 1  # manifest, samples, batches of answers, parts, tokens

replace = Path.replace


def in_child(work: Callable[[], None]) -> bool:
    """Run in a forked child; whether it was killed."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return killed(child)


def killed(child: int) -> bool:
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0, "a run failed"
    return False


def kill_at(write: int, *, before: bool) -> None:
    """Have this process killed at its n-th file, before or after that gets its name."""
    done = []

    def counting(self: Path, target: Path) -> Path:
        done.append(target)
        if before and len(done) == write:
            os.kill(os.getpid(), signal.SIGKILL)
        result = replace(self, target)
        if len(done) == write:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    Path.replace = counting  # type: ignore[method-assign]


def disturbed(loaded: LoadedModel, folder: Path, write: int, *, before: bool) -> bool:
    def work() -> None:
        kill_at(write, before=before)
        collect(loaded, PROMPTS, folder, options=OPTIONS)

    return in_child(work)


def at_random(loaded: LoadedModel, folder: Path, delay_s: float) -> bool:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            collect(loaded, PROMPTS, folder, options=OPTIONS)
            status = 0
        finally:
            os._exit(status)
    time.sleep(delay_s)
    os.kill(child, signal.SIGKILL)
    return killed(child)


def main(model: str, work: Path) -> None:
    torch.set_num_threads(1)
    loaded = load(model)
    with TemporaryDirectory() as warm:  # so that the children need not import, nor try anything for the first time
        collect(loaded, PROMPTS, Path(warm), options=OPTIONS)
    gc.freeze()

    def undisturbed(folder: Path) -> None:
        assert not in_child(lambda: collect(loaded, PROMPTS, folder, options=OPTIONS))

    began = time.monotonic()
    undisturbed(work / "undisturbed")
    duration_s = time.monotonic() - began
    num_killed = 0
    for write in range(1, NUM_FILES + 1):
        for before in (True, False):
            folder = work / f"{'before' if before else 'after'}-{write}"
            num_killed += disturbed(loaded, folder, write, before=before)
            undisturbed(folder)
    for _ in range(NUM_FILES + 1):
        num_killed += disturbed(loaded, work / "always", 1, before=False)
    rng = random.Random(0)
    for number in range(4):
        folder = work / f"random-{number}"
        for _ in range(3):
            num_killed += at_random(loaded, folder, rng.random() * duration_s)
        undisturbed(folder)
    print(num_killed)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
