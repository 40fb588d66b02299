"""What does training the readout recover of the depth at which tokens are decided?

A tuned lens is trained on a text, or taken from a file; then the model's own answers on `mini` are traced with the
plain readout and with the tuned one. Answers, tokens and final predictions are the same in both: what differs is how
shallower depths are read out. Differences are paired: both lenses see the same resampled prompts, within categories;
those of cross-fitted figures have no interval.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from common import print_result
from exitbench.api import LensOptions, TraceOptions, lens, load, load_workload, score, trace
from exitbench.lens import read_translators
from exitbench.score import ScoreCard
from exitbench.stats.bootstrap import Bootstrap, Prompts, draw_weights
from exitbench.stats.figure import Figure
from exitbench.trace.decided import first_match_depths, remaining_costs
from exitbench.trace.table import Trace

FIGURES = {
    "EES": "ees",
    "EES*": "ees_star",
    "first match": "ees_first_match",
    "AES(1 %)": "aes_1pct",
    "AES(5 %)": "aes_5pct",
}
DRAWS = 2000


def paired(plain: Trace, tuned: Trace) -> dict[str, Figure | None]:
    """What the tuned lens adds to each figure that is a mean over tokens, by the field's name."""
    assert np.array_equal(plain.final_id, tuned.final_id), "the two lenses saw different tokens"
    rho = remaining_costs(plain.manifest.shape.block_costs)
    ids = [traced.signals["top1_id"] for traced in (plain, tuned)]
    depths = {
        "ees": (plain.decision_depth, tuned.decision_depth),
        "ees_first_match": tuple(map(first_match_depths, ids)),
    }
    prompts = Prompts.of(plain)
    weights = draw_weights(prompts.categories, draws=DRAWS, rng=np.random.default_rng(0))
    bootstrap = Bootstrap(weights=weights)
    return {
        name: bootstrap.mean(prompts.sums(rho[after] - rho[before]), prompts.counts()).figure()
        for name, (before, after) in depths.items()
    }


def rows_of(cards: dict[str, ScoreCard], differences: dict[str, Figure | None]) -> list[dict[str, str]]:
    """The table for people."""
    rows = []
    for label, field in FIGURES.items():
        both: list[Figure | None] = [getattr(card, field) for card in cards.values()]
        difference = differences.get(field)
        if difference is not None:
            recovered = difference.text()
        elif all(both):
            recovered = f"{both[1].value - both[0].value:+.3f}"
        else:
            recovered = "n/a"
        shown = {name: "n/a" if figure is None else figure.text() for name, figure in zip(cards, both, strict=True)}
        rows.append({"share of the blocks' work": label} | shown | {"what training the readout recovers": recovered})
    return rows


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dtype", default="bfloat16")
    lens_from = parser.add_mutually_exclusive_group(required=True)
    lens_from.add_argument("--text", help="workload to train on")
    lens_from.add_argument("--lens", type=Path, help="file of 'exitbench lens'")
    parser.add_argument("--tokens", type=int, default=LensOptions().tokens, help="seen in training")
    parser.add_argument("--out", type=Path, help="folder to keep lens and traces in, and to resume from")
    parser.add_argument("--limit", type=int, help="prompts of mini")
    parser.add_argument("--max-new-tokens", type=int, default=TraceOptions().max_new_tokens)
    return parser.parse_args()


def measure(arguments: argparse.Namespace, folder: Path) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """Rows for people, and everything for programs."""
    loaded = load(arguments.model, dtype=arguments.dtype)
    path, trained = arguments.lens or folder / "lens.safetensors", None
    if arguments.text is not None:
        trained = lens(loaded, arguments.text, out=path, options=LensOptions(tokens=arguments.tokens))
    traces = {}
    for name, readout in (("plain", "logit"), ("tuned", f"tuned:{path}")):
        options = TraceOptions(readout=readout, limit=arguments.limit, max_new_tokens=arguments.max_new_tokens)
        traces[name] = trace(loaded, load_workload("mini"), out=folder / name, options=options)
    cards = {name: score(traced) for name, traced in traces.items()}
    differences = paired(traces["plain"], traces["tuned"])
    figures = {
        name: {
            field: figure and figure.model_dump() for field in FIGURES.values() for figure in (getattr(card, field),)
        }
        for name, card in cards.items()
    }
    return rows_of(cards, differences), {
        "n_tokens": cards["plain"].n_tokens,
        "n_prompts": cards["plain"].n_prompts,
        "training": trained and trained.to_json(),
        "lens": read_translators(path).origin.model_dump(mode="json"),
        **figures,
        "recovered": {field: figure and figure.model_dump() for field, figure in differences.items()},
    }


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder:
        rows, result = measure(arguments, arguments.out or Path(folder))
    title = f"{arguments.model}, {arguments.dtype}, {result['n_tokens']} tokens of {result['n_prompts']} prompts"
    print_result(title, rows, {"model": arguments.model, "dtype": arguments.dtype, **result})


if __name__ == "__main__":
    main()
