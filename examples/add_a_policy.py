"""An exit policy of one's own, next to the plain threshold.

    python examples/add_a_policy.py            on a toy model, in seconds: its figures mean nothing
    python examples/add_a_policy.py TRACE      on a folder of 'exitbench trace' or 'exitbench run'

From a package of your own, register it in pyproject.toml in place of `POLICIES.add`:

    [project.entry-points."exitbench.policies"]
    sure-twice = "my_package:SureTwice"
"""

import argparse
import tempfile
from pathlib import Path
from typing import ClassVar

import numpy as np
from rich.console import Console

from exitbench.api import TraceOptions, read_trace, replay, trace, trace_folder
from exitbench.models.toy import save_toy
from exitbench.policies import POLICIES, ExitPolicy, Seen
from exitbench.policies.grids import PROBABILITIES
from exitbench.report.replay import replay_tables
from exitbench.trace.table import Trace


class SureTwice(ExitPolicy):
    """Leave when two probes in a row predict the same token and are both sure of it (Source: this example)."""

    name: ClassVar[str] = "sure-twice"
    signals: ClassVar[tuple[str, ...]] = ("top1_id", "top1_prob")
    state: ClassVar[tuple[str, ...]] = ("earlier probes",)

    def scores(self, seen: Seen) -> np.ndarray:
        """The smaller of the two probabilities; NaN where the tokens differ, or where there is no probe before."""
        token, prob = seen.signals["top1_id"], seen.signals["top1_prob"].astype(np.float64)
        scores = np.full(prob.shape, np.nan)
        scores[:, 1:] = np.where(token[:, 1:] == token[:, :-1], np.minimum(prob[:, 1:], prob[:, :-1]), np.nan)
        return scores

    @classmethod
    def grid(cls, num_blocks: int) -> np.ndarray:
        """Probabilities."""
        return PROBABILITIES


POLICIES.add(SureTwice.name, SureTwice)


def toy_trace() -> Trace:
    """A trace of an untrained toy model."""
    with tempfile.TemporaryDirectory() as folder:
        model = save_toy(Path(folder) / "toy", num_blocks=6)
        options = TraceOptions(limit=24, max_new_tokens=8)
        return trace(str(model), "mini", out=Path(folder) / "trace", options=options)


def main() -> None:
    """Replay the new policy and the plain threshold on the same trace."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", nargs="?", type=Path)
    folder = parser.parse_args().trace
    traced = toy_trace() if folder is None else read_trace(trace_folder(folder))
    Console(width=140).print(replay_tables(replay(traced, [SureTwice()])))


if __name__ == "__main__":
    main()
