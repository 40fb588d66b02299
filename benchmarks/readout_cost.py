"""What do decisions alone, and all signals at every depth, cost beside the forward pass and bare matrix products?

Measured in turns in one process, on the same documents:

- forward: `model(input_ids)` with its final logits;
- lazy: hidden states and decision depths, as `--fast` records them, on top of nothing else;
- full: hidden states and all signals at every depth;
- signals: the same from hidden states that are there already;
- products: those of the signals with the head, (L + 1) T rows of features by V, and nothing done with them;
- naive: a loop over depths that computes five signals, with torch as it comes.

The decisions of lazy and full are compared, and the script fails where they differ.
"""

import argparse
import sys
from unittest.mock import patch

import torch

from common import documents, print_result, quantiles
from exitbench.models.load import LoadedModel, load
from exitbench.signals import compute_signals
from exitbench.signals.compute import MOST_ROWS
from exitbench.trace.decision import decision_depths
from measuring import peaks_beyond_forward, times_in_turns
from ways import WAYS, Run, Seen


def signals(loaded: LoadedModel, docs: list[torch.Tensor]) -> Run:
    hidden = {id(ids): loaded.adapter.capture(ids[None]) for ids in docs}

    def run(ids: torch.Tensor) -> Seen:
        compute_signals(hidden[id(ids)], ids.roll(-1), loaded.readout)
        return {}

    return run


def products(loaded: LoadedModel, docs: list[torch.Tensor]) -> Run:
    weight = loaded.model.get_output_embeddings().weight
    features = {
        id(ids): loaded.readout.features(loaded.adapter.capture(ids[None]).flatten(0, 1)).clone() for ids in docs
    }
    room = torch.empty(MOST_ROWS, len(weight), dtype=weight.dtype)

    def run(ids: torch.Tensor) -> Seen:
        for rows in features[id(ids)].split(MOST_ROWS):
            torch.mm(rows, weight.T, out=room[: len(rows)])
        return {}

    return run


OF_OTHERS = {"forward": "forward", "lazy": "exitbench, lazy", "full": "exitbench, full", "naive": "naive lens"}
CHOICES = (*OF_OTHERS, "signals", "products")


def prepared(name: str, loaded: LoadedModel, docs: list[torch.Tensor]) -> Run:
    """One way, ready to run."""
    if name in OF_OTHERS:
        return WAYS[OF_OTHERS[name]].prepare(loaded)
    return {"signals": signals, "products": products}[name](loaded, docs)


def readouts_a_token(loaded: LoadedModel, docs: list[torch.Tensor]) -> dict[str, float]:
    """Rows that lazy decisions multiply with the whole head, and with a shortlist of it; with rivals known."""
    rows = {"whole": 0, "shortlist": 0}
    run, logits = prepared("lazy", loaded, docs), loaded.readout.logits

    def counted(features: torch.Tensor, tokens: torch.Tensor | None = None) -> torch.Tensor:
        rows["whole" if tokens is None else "shortlist"] += len(features)
        return logits(features, tokens)

    for ids in docs:
        run(ids)
    with patch.object(loaded.readout, "logits", counted):
        for ids in docs:
            run(ids)
    return {name: number / sum(len(ids) for ids in docs) for name, number in rows.items()}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--tokens", type=int, default=2400)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--ways", nargs="+", choices=CHOICES, default=CHOICES)
    return parser.parse_args()


@torch.inference_mode()
def main() -> None:
    arguments = parse()
    loaded = load(arguments.model, dtype=arguments.dtype)
    docs = [torch.tensor(ids) for ids in documents(loaded, arguments.tokens)]
    runs = {name: prepared(name, loaded, docs) for name in dict.fromkeys(["forward", *arguments.ways])}
    for run in runs.values():
        run(docs[0])
    times, seen = times_in_turns(runs, docs, arguments.repeats)
    peaks = peaks_beyond_forward(runs, docs[0])
    bases = {"signals": "products"} | {name: "forward" for name in runs if name not in ("signals", "products")}
    ratios = {
        name: quantiles([t / b for t, b in zip(times[name], times[base], strict=True)])
        for name, base in bases.items()
        if name in runs and base in runs
    }
    rows = [
        {
            "way": name,
            "time_s (median)": quantiles(times[name])["median"],
            "times": f"{ratios[name]['median']:.2f} x {bases[name]}" if name in ratios else "",
            "spread": "{min:.2f} to {max:.2f}".format(**ratios[name]) if name in ratios else "",
            "peak MiB beyond forward": "" if peaks[name] is None else f"{peaks[name]:.0f}",
        }
        for name in runs
    ]
    differ = None
    if {"lazy", "full"} <= runs.keys():
        pairs = zip(seen["lazy"], seen["full"], strict=True)
        differ = sum(int((a["decision_depth"] != decision_depths(b["top1_id"].T)).sum()) for a, b in pairs)
    print_result(
        f"{arguments.model}, {arguments.dtype}, {arguments.tokens} tokens, {loaded.shape.num_blocks} blocks",
        rows,
        {
            "model": arguments.model,
            "dtype": arguments.dtype,
            "n_tokens": arguments.tokens,
            "n_repeats": arguments.repeats,
            "time_s": {name: quantiles(seconds) for name, seconds in times.items()},
            "ratio_to_forward": {name: ratio for name, ratio in ratios.items() if bases[name] == "forward"},
            "ratio_to_products": {name: ratio for name, ratio in ratios.items() if bases[name] == "products"},
            "peak_mib_beyond_forward": peaks,
            "decisions_that_differ": differ,
            "lazy_readouts_a_token": readouts_a_token(loaded, docs),
        },
    )
    if differ:
        sys.exit(1)


if __name__ == "__main__":
    main()
