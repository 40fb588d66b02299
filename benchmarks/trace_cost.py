"""What does recording every signal at every depth cost, in plain forward passes of the same tokens?

Measured in turns in one process: the plain forward pass with its final logits, the trace (hidden states, readout and
all signals at every depth), and a naive loop over depths that computes five signals with one library call each.
"""

import argparse
import time
from collections.abc import Callable

import torch

from common import documents, five_signals, print_result, quantiles
from exitbench.models.load import LoadedModel, load
from exitbench.signals import SIGNALS, compute_signals


def plain(loaded: LoadedModel, ids: torch.Tensor) -> None:
    loaded.model(input_ids=ids[None], use_cache=False)


def trace(loaded: LoadedModel, ids: torch.Tensor) -> None:
    hidden_LRD = loaded.adapter.capture(ids[None], slice(0, len(ids) - 1))
    compute_signals(hidden_LRD, ids[1:], loaded.readout)


def naive(loaded: LoadedModel, ids: torch.Tensor) -> None:
    hidden_LRD = loaded.adapter.capture(ids[None], slice(0, len(ids) - 1))
    final = loaded.adapter.readout(hidden_LRD[-1]).float().log_softmax(-1)
    for hidden_RD in hidden_LRD[:-1]:
        logprob = loaded.adapter.readout(hidden_RD).float().log_softmax(-1)
        five_signals(logprob, final)


@torch.inference_mode()
def measure(loaded: LoadedModel, num_tokens: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of each way over all documents, in turns."""
    docs = [torch.tensor(ids, device=loaded.model.device) for ids in documents(loaded, num_tokens)]
    ways: dict[str, Callable[[LoadedModel, torch.Tensor], None]] = {"plain": plain, "trace": trace, "naive": naive}
    for way in ways.values():
        way(loaded, docs[0])
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            for ids in docs:
                way(loaded, ids)
            times[name].append(time.perf_counter() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--tokens", type=int, default=2400)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()

    loaded = load(arguments.model, dtype=arguments.dtype)
    times = measure(loaded, arguments.tokens, arguments.repeats)
    ratios = {
        name: quantiles([t / p for t, p in zip(times[name], times["plain"], strict=True)])
        for name in ("trace", "naive")
    }
    num_signals = {"plain": 0, "trace": len(SIGNALS), "naive": 5}
    rows = [
        {
            "way": name,
            "signals": num_signals[name],
            "time_s (median)": quantiles(seconds)["median"],
            "times the forward pass": f"{ratios[name]['median']:.1f}" if name in ratios else "1",
            "spread": "{min:.1f} to {max:.1f}".format(**ratios[name]) if name in ratios else "",
        }
        for name, seconds in times.items()
    ]
    title = f"{arguments.model}, {arguments.dtype}, {arguments.tokens} tokens, {loaded.shape.num_blocks} blocks"
    print_result(
        title,
        rows,
        {
            "model": arguments.model,
            "dtype": arguments.dtype,
            "n_tokens": arguments.tokens,
            "n_repeats": arguments.repeats,
            "time_s": {name: quantiles(seconds) for name, seconds in times.items()},
            "ratio_to_forward": ratios,
        },
    )


if __name__ == "__main__":
    main()
