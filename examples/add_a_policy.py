"""An exit policy of one's own, next to the plain threshold.

    python examples/add_a_policy.py            on a toy model, in seconds: its figures mean nothing
    python examples/add_a_policy.py TRACE      on a folder of 'exitbench trace' or 'exitbench run'

From a package of your own, register it in pyproject.toml in place of `POLICIES.add`:

    [project.entry-points."exitbench.policies"]
    sure-twice = "my_package:SureTwice"
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import ClassVar

import numpy as np

from exitbench.policies import POLICIES, ExitPolicy, Seen
from exitbench.policies.grids import PROBABILITIES
from exitbench.replay.crossfit import Folds, cross_fit
from exitbench.replay.frontier import frontier
from exitbench.stats.bootstrap import LEVEL, MIN_PROMPTS
from exitbench.stats.material import Material, certain, gather
from exitbench.trace.store import read_trace
from exitbench.trace.table import Trace

DRAWS = 1000
EPS = 0.05
SHOWN = (0.0, 0.1, 0.2, 0.5, 0.9, 0.99)


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
    from exitbench.api import TraceOptions, trace
    from exitbench.models.toy import save_toy

    with tempfile.TemporaryDirectory() as folder:
        model = save_toy(Path(folder) / "toy", num_blocks=6)
        options = TraceOptions(limit=24, max_new_tokens=8)
        return trace(str(model), "mini", out=Path(folder) / "trace", options=options)


def show(material: Material, policy: ExitPolicy) -> None:
    """Print a policy's frontier, and what it saves where at most 5 % of the tokens may change."""
    curve = frontier(material, policy)
    print(f"{policy.name}\n  threshold  blocks' work saved  tokens changed")
    for threshold in SHOWN:
        at = curve.savings.at.index(threshold)
        print(f"  {threshold:9}  {curve.savings.value[at]:18.1%}  {curve.disagreement.value[at]:14.1%}")
    if material.prompts.num_prompts < MIN_PROMPTS:
        print(f"  no threshold chosen: that needs at least {MIN_PROMPTS} prompts")
        return
    folds = Folds(material.prompts, draws=DRAWS, seed=np.random.SeedSequence(0))
    (fit,) = cross_fit(material, policy, folds, eps_grid=(EPS,), columns=lambda _: material.rho[:, None])
    saved, changed = certain(material.mean(fit.values[:, 0])), material.figure(~material.agrees_at(fit.exit_depth))
    print(f"  thresholds chosen on other prompts, {EPS:.0%} of tokens allowed to change:")
    print(f"  saved {saved.text()}, changed {changed.text()}\n")


def main() -> None:
    """Replay the new policy and the plain threshold on the same trace."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", nargs="?", type=Path)
    folder = parser.parse_args().trace
    trace = toy_trace() if folder is None else read_trace(folder / "trace" if (folder / "trace").is_dir() else folder)
    material = gather(trace, draws=DRAWS, seed=np.random.SeedSequence(0), level=LEVEL, pooled=False)
    for name in ("top1-prob", "sure-twice"):
        show(material, POLICIES.get(name)())


if __name__ == "__main__":
    sys.exit(main())
