"""Is one model better suited for early exit than another? Their difference, paired over the same prompts.

    python examples/compare_two_models.py                  two toys, in seconds: their figures mean nothing
    python examples/compare_two_models.py MODEL OTHER      any two causal models

Both answer the same prompts, and every resample draws the same prompts for both, so that hard prompts are hard for
both and cancel out. Two intervals that overlap are no such test. It speaks of these two models; a claim on kinds of
models takes many of them: `exitbench study`.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from exitbench.api import Trace, TraceOptions, score, trace
from exitbench.errors import ExitbenchError
from exitbench.models.toy import save_toy
from exitbench.stats.bootstrap import Bootstrap, Prompts, draw_weights
from exitbench.stats.figure import Figure
from exitbench.trace.decided import remaining_costs

DRAWS = 2_000


def ees_difference(first: Trace, second: Trace) -> Figure | None:
    """EES of the first less that of the second: tokens may differ, resampled prompts do not."""
    if set(first.sample_index) != set(second.sample_index):
        sys.exit("a prompt failed on one model only, so there are no pairs; leave it out with a workload of your own")
    prompts = Prompts.of(first)
    same = Bootstrap(weights=draw_weights(prompts.categories, draws=DRAWS, rng=np.random.default_rng(0)))
    means = []
    for traced in (first, second):
        saved = remaining_costs(traced.manifest.shape.block_costs)[traced.decision_depth]
        of = Prompts.of(traced)
        means.append(same.mean(of.sums(saved), of.counts()))
    return means[0].map(np.subtract, means[1]).figure()


def main() -> None:
    """Trace both, print both and their difference; the same command again goes on where it was stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="two of them; two toys, if left out")
    parser.add_argument("--prompts", type=int, default=60, help="of mini, its categories in turn")
    parser.add_argument("--out", type=Path, default=Path("exitbench-out/compared"))
    arguments = parser.parse_args()
    models = arguments.models or [str(save_toy(arguments.out / f"toy-{seed}", seed=seed)) for seed in (0, 1)]
    if len(models) != 2:
        parser.error(f"expected two models, got {len(models)}")

    # EES needs decisions alone; without `fast` the card has everything else too.
    options = TraceOptions(limit=arguments.prompts, max_new_tokens=16, fast=True)
    folders = [arguments.out / f"{Path(model).name}-{arguments.prompts}-{i}" for i, model in enumerate(models)]
    traces = [trace(model, "mini", out=out, options=options) for model, out in zip(models, folders, strict=True)]
    for model, traced in zip(models, traces, strict=True):
        print(f"{model}: EES {score(traced).ees.text()}")

    apart = ees_difference(*traces)
    if apart is None:
        sys.exit("no token to compare")
    print(f"difference: {apart.text()}, {apart.n_prompts} prompts")
    if apart.low is not None and apart.high is not None:
        print("told apart" if apart.low > 0 or apart.high < 0 else "not told apart: the interval includes 0")


if __name__ == "__main__":
    try:
        main()
    except ExitbenchError as error:
        sys.exit(f"error: {error}")
