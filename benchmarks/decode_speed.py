"""Is the loop that never exits as fast as transformers' own, and what do fixed exits take?

The same prompts by `model.generate`, by the loop that never exits, and by fixed depths with every state strategy, in
turns. Fixed depths leave whatever a token looks like, so the times hold for models that have learnt nothing, too:
`--random 1b` builds one of about that many parameters, for machines that cannot fetch weights.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from common import print_result
from exitbench.decode.decoder import ExitDecoder
from exitbench.decode.engine import Decoded
from exitbench.decode.generation import Greedy
from exitbench.decode.timing import full_work, measure_ceilings, time_in_turns
from exitbench.models.load import LoadedModel, load
from exitbench.models.toy import byte_tokenizer
from exitbench.policies.static import FixedDepth
from exitbench.workloads import load_workload

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4},
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32},
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--random", choices=SIZES, help="a model of random weights in its place")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only-baselines", action="store_true", help="no exits, just never exit against generate")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        model = _random(arguments.random, arguments.dtype, Path(folder)) if arguments.random else arguments.model
        loaded = load(model, dtype=arguments.dtype, device=arguments.device)
        never = ExitDecoder(loaded, FixedDepth())
        cells = [_cell(loaded, never, int(batch), arguments) for batch in arguments.batches.split(",")]
    ceilings = measure_ceilings(loaded.model.device, loaded.model.dtype)
    rows = [row for cell in cells for row in cell["rows"]]
    print_result(
        f"{arguments.random or arguments.model}, {arguments.dtype} on {arguments.device}, "
        f"{arguments.max_new_tokens} new tokens, {arguments.repeats} turns",
        rows,
        {
            "model": arguments.random or arguments.model,
            "num_threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu",
            "ceilings": ceilings.model_dump(),
            "cells": cells,
        },
    )


def _cell(loaded: LoadedModel, never: ExitDecoder, batch: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """All engines on one batch."""
    tokens, depth = arguments.max_new_tokens, max(1, loaded.adapter.num_blocks // 2)
    texts = [sample.turns[0] for sample in load_workload("mini").limited(batch).samples]
    prompts = [loaded.tokenizer(text, add_special_tokens=False).input_ids[:64] for text in texts]
    greedy = Greedy(loaded, past_ends=True)
    jobs: dict[str, Any] = {
        "generate": lambda: greedy.decode(prompts, max_new_tokens=tokens),
        "never exit": _job(never, prompts, tokens),
    }
    for state in () if arguments.only_baselines else ("deferred", "copy", "lossless"):
        if state == "lossless" and batch > 1:
            continue
        exits = ExitDecoder(loaded, FixedDepth(threshold=depth), state=state, abilities=never.abilities)
        jobs[f"depth {depth}, {state}"] = _job(exits, prompts, tokens)
    timed = time_in_turns(jobs, baseline="generate", device=loaded.model.device, repeats=arguments.repeats)
    own = timed["generate"][1].answers
    longest = max(map(len, prompts))
    num_bytes, flops = full_work(loaded.shape, batch=batch, context=longest + tokens // 2)
    rows = []
    for name, (timing, decoded) in timed.items():
        step_s = timing.total_s.median / tokens
        rows.append(
            {
                "batch": batch,
                "engine": name,
                "ms a step": 1000 * step_s,
                "times generate": timing.ratio.median,
                "from": timing.ratio.q10,
                "to": timing.ratio.q90,
                "identical answers": sum(a.ids == b.ids for a, b in zip(own, decoded.answers, strict=True)) / batch,
                "GB/s of full steps": num_bytes / step_s / 1e9,
                "GFLOP/s": flops / step_s / 1e9,
                "MiB peak": None if timing.peak_bytes is None else timing.peak_bytes / 2**20,
            }
        )
    return {"batch": batch, "rows": rows, "timings": {name: timing.model_dump() for name, (timing, _) in timed.items()}}


def _job(decoder: ExitDecoder, prompts: list[list[int]], tokens: int) -> Any:
    def run() -> Decoded:
        return decoder.decode(prompts, max_new_tokens=tokens, ends=())

    return run


def _random(size: str, dtype: str, folder: Path) -> str:
    """A Llama of random weights, written like any checkpoint."""
    config = LlamaConfig(**SIZES[size], vocab_size=32_768, max_position_embeddings=4096, num_key_value_heads=None)
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = LlamaForCausalLM(config).to(getattr(torch, dtype))
    model.save_pretrained(folder)
    byte_tokenizer(chat=False).save_pretrained(folder)
    return str(folder)


if __name__ == "__main__":
    main()
