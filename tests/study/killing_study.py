"""Kills runs of a study with SIGKILL and lets them resume; run by `test_killed_study.py` in a process of its own.

    python killing_study.py SPEC SMALL WORK

Every run is a forked child, so that a kill costs no start-up. The study SPEC runs alone in `WORK/alone`, and in
`WORK/random-0`, .. it is killed at random moments of its whole length, until ten kills have hit. The study SMALL runs
alone in `WORK/small`, and in `WORK/small-files` each run is killed just after its second file gets its name (the first
may be one that every run writes anew). Prints how often runs were killed at random, and how often after a file.
"""

import gc
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from exitbench.api import study

NUM_KILLS = 10
replace = Path.replace
named: list[Path] = []
"""Files that got their names in this process."""


def start(spec: Path, out: Path, *, kill_after_file: bool = False) -> int:
    """A child that runs the study."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        if kill_after_file:
            Path.replace = _killing  # type: ignore[method-assign]
        status = 0 if not study(spec, out=out).failed else 1
    finally:
        os._exit(status)


def _killing(self: Path, target: Path) -> Path:
    result = replace(self, target)
    named.append(target)
    if len(named) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return result


def was_killed(child: int) -> bool:
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.waitstatus_to_exitcode(status) == 0, "a run failed"
    return False


def main(spec: Path, small: Path, work: Path) -> None:
    torch.set_num_threads(1)
    study(small, out=work / "warm")  # so that the children need not import, nor try anything for the first time
    gc.freeze()
    began = time.monotonic()
    assert not was_killed(start(spec, work / "alone"))
    duration_s = time.monotonic() - began
    rng = random.Random(0)
    at_random = number = after_files = 0
    while at_random < NUM_KILLS:
        child = start(spec, work / f"random-{number}")
        time.sleep(rng.random() * duration_s)
        os.kill(child, signal.SIGKILL)
        if was_killed(child):
            at_random += 1
        else:
            number += 1  # this one is finished
    assert not was_killed(start(spec, work / f"random-{number}"))
    assert not was_killed(start(small, work / "small"))
    while not (work / "small-files" / "index.html").exists():  # the last file
        after_files += was_killed(start(small, work / "small-files", kill_after_file=True))
        assert after_files < 20, "a run that never gets on"
    print(at_random, after_files)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
