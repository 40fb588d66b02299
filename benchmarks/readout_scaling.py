"""How does seeing every depth scale: with tokens, with depth and with the vocabulary?

Untrained Llamas built from configs, one size varied at a time, seen in three ways: the forward pass, every signal at
every depth, and the decision depth alone. Time is measured in turns; memory is the peak beyond the forward pass. Linear
cost shows as a constant time per token and depth.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from common import print_result, quantiles
from exitbench.models.load import LoadedModel, load
from exitbench.models.toy import byte_tokenizer
from measuring import CLOCKS, peaks_beyond_forward, times_in_turns
from ways import WAYS

NAMES = ("forward", "exitbench, full", "exitbench, lazy")
BASE = {"num_tokens": 256, "num_blocks": 8, "vocab_size": 8192}
AXES = {
    "num_tokens": (256, 512, 1024, 2048),
    "num_blocks": (4, 8, 16, 32),
    "vocab_size": (2048, 8192, 32768, 131072),
}


def built(num_blocks: int, vocab_size: int) -> LoadedModel:
    """A model of random float32 weights, loaded as any other."""
    config = LlamaConfig(
        hidden_size=128, intermediate_size=384, num_attention_heads=4, num_key_value_heads=2,
        num_hidden_layers=num_blocks, vocab_size=vocab_size, bos_token_id=2, eos_token_id=0, pad_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        LlamaForCausalLM(config).save_pretrained(folder)
        byte_tokenizer().save_pretrained(folder)
        return load(str(Path(folder)))


def measure(
    num_tokens: int, num_blocks: int, vocab_size: int, *, repeats: int, clock: str
) -> dict[str, dict[str, Any]]:
    """Time and memory of each way at one point."""
    loaded = built(num_blocks, vocab_size)
    ids = torch.randint(vocab_size, (num_tokens,), generator=torch.Generator().manual_seed(1))
    runs = {name: WAYS[name].prepare(loaded) for name in NAMES}
    times_in_turns(runs, [ids], 1)  # warm-up
    times, _ = times_in_turns(runs, [ids], repeats, clock)
    peaks = peaks_beyond_forward(runs, ids)
    return {name: {"time_s": quantiles(times[name]), "peak_mib": peaks[name]} for name in NAMES}


def rows_of(axis: str, sizes: dict[str, int], ways: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """One point for people, a row a way."""
    places = sizes["num_tokens"] * (sizes["num_blocks"] + 1)
    return [
        {
            "axis": axis,
            "at": sizes[axis],
            "way": name,
            "time, ms": 1e3 * way["time_s"]["median"],
            "spread": f"{1e3 * way['time_s']['min']:.3g} to {1e3 * way['time_s']['max']:.3g}",
            "us a token and depth": 1e6 * way["time_s"]["median"] / places,
            "peak MiB beyond forward": "" if way["peak_mib"] is None else f"{way['peak_mib']:.0f}",
        }
        for name, way in ways.items()
    ]


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=BASE["num_tokens"], help="of the points of the other axes")
    parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="'processor' on a machine that others use too")
    arguments = parser.parse_args()

    rows, points = [], []
    for axis in arguments.axes:
        for value in AXES[axis]:
            sizes = BASE | {"num_tokens": arguments.tokens, axis: value}
            ways = measure(**sizes, repeats=arguments.repeats, clock=arguments.clock)
            rows += rows_of(axis, sizes, ways)
            points.append({"axis": axis, **sizes, "ways": ways})
    print_result(
        "seeing every depth of an untrained Llama of width 128, float32",
        rows,
        {"n_tokens": arguments.tokens, "n_repeats": arguments.repeats, "clock": arguments.clock, "points": points},
    )


if __name__ == "__main__":
    main()
