"""How long does the main job take, in a process of its own, with and without cached weights?"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import print_result


def run_once(cache: Path, out: Path, model: str) -> float:
    """Seconds that `exitbench run` takes with this weight cache and a new output folder."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "exitbench", "run", model, "--out", str(out), "--quiet"],
        check=True,
        env={**os.environ, "EXITBENCH_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        times = {
            "empty cache": run_once(cache, Path(folder) / "first", arguments.model),
            "weights cached": run_once(cache, Path(folder) / "second", arguments.model),
        }
    rows = [{"run": name, "time_s": seconds} for name, seconds in times.items()]
    print_result(f"exitbench run {arguments.model}", rows, {"model": arguments.model, "time_s": times, "n_runs": 1})


if __name__ == "__main__":
    main()
