"""What do early exits of several runtimes take, each beside greedy decoding of the same runtime?

Every engine and setting answers the same prompts, one at a time, in turns with the greedy decoding of its own runtime.
The answers are compared with that greedy decoding too: share of identical tokens, answers that are identical, and where
the others part. Settings are fixed shares of the model's blocks and plain thresholds; nothing is calibrated, so what a
setting changes is no verdict on its method. Greedy decoding of all runtimes is timed against transformers' own.

An engine that is not installed, or does not run the model, is a row with the reason.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from common import print_result
from exitbench.decode.engine import Decoded, Engine
from exitbench.decode.engines import ENGINES
from exitbench.decode.quality import first_divergence, identical_tokens
from exitbench.decode.timing import Timing, time_in_turns
from exitbench.errors import ExitbenchError
from exitbench.models.load import load
from exitbench.trace.prompts import conversation_ids, has_chat_template
from exitbench.workloads import load_workload

Settings = Mapping[str, Any]

_TRIAL = 4
"""Tokens after which an engine has drafted, and failed if it cannot."""


def settings_of(num_blocks: int, tokens: int) -> dict[str, list[tuple[str, Settings]]]:
    """Runtime -> (engine, settings) of each of its rows, the greedy one first."""
    quarters = [max(1, num_blocks * share // 4) for share in (1, 2, 3)]
    drafts = {"policy": "fixed-depth", "state": "lossless"}
    return {
        "exitbench": [
            ("exitbench", {}),
            *(("exitbench", {"policy": "top1-prob", "threshold": at}) for at in (0.9, 0.99)),
            *(("exitbench", drafts | {"threshold": depth}) for depth in quarters),
        ],
        "transformers": [
            ("transformers", {}),
            *(("transformers-early-exit", {"depth": depth}) for depth in quarters),
        ],
        "economize": [
            ("economize", {}),
            *(("economize", {"technique": "calm", "threshold": at}) for at in (0.5, 0.9, 0.99)),
            ("economize", {"technique": "skipdecode", "min_blocks": quarters[2], "decay": tokens}),
            *(("economize", {"technique": "early-exit", "depth": depth, "draft": 3}) for depth in quarters),
            ("economize", {"technique": "layer-skip", "skipped": quarters[0], "draft": 3}),
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runtimes", default="exitbench,transformers,economize")
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()

    loaded = load(arguments.model, dtype=arguments.dtype, device=arguments.device)
    chat, samples = has_chat_template(loaded.tokenizer), load_workload("mini").limited(arguments.prompts).samples
    prompts = [conversation_ids(loaded.tokenizer, sample.turns[:1], [], chat=chat) for sample in samples]
    in_turns = partial(time_in_turns, device=loaded.model.device, repeats=arguments.repeats)
    decode = partial(one_by_one, prompts=prompts, max_new_tokens=arguments.max_new_tokens)

    rows: list[dict[str, Any]] = []
    greedy: dict[str, Any] = {}
    table = settings_of(loaded.adapter.num_blocks, arguments.max_new_tokens)
    for runtime in arguments.runtimes.split(","):
        jobs: dict[tuple[str, str], Any] = {}
        for number, (name, settings) in enumerate(table[runtime]):
            try:
                engine = ENGINES.get(name)(loaded, settings)
                decode(engine, prompts=prompts[:1], max_new_tokens=_TRIAL)
            except ExitbenchError as error:
                rows.append({"engine": name, "setting": describe(settings), "reason": str(error)})
                if number == 0:
                    break  # nothing to which the others could be put in relation
            else:
                jobs[name, engine.setting] = partial(decode, engine)
        if jobs:
            baseline = next(iter(jobs))
            greedy[runtime] = jobs[baseline]
            timed = in_turns(jobs, baseline=baseline)
            rows += [row_of(key, *timed[key], timed[baseline][1]) for key in timed]
    beside = in_turns(greedy, baseline="transformers") if {"transformers"} < greedy.keys() else {}
    print_result(
        f"{arguments.model}, {arguments.dtype} on {arguments.device}: {len(prompts)} prompts one at a time, at most "
        f"{arguments.max_new_tokens} tokens, {arguments.repeats} turns",
        [people(row) for row in rows],
        {
            "model": arguments.model,
            "dtype": arguments.dtype,
            "device": torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu",
            "n_prompts": len(prompts),
            "repeats": arguments.repeats,
            "rows": rows,
            "greedy_to_transformers": {
                name: {
                    "ratio": timing.ratio.model_dump(),
                    "identical_answers": sum(
                        a.ids == b.ids for a, b in zip(decoded.answers, beside["transformers"][1].answers, strict=True)
                    ),
                }
                for name, (timing, decoded) in beside.items()
            },
        },
    )


def one_by_one(engine: Engine, *, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> Decoded:
    """All prompts, each on its own."""
    parts = [engine.decode([prompt], max_new_tokens=max_new_tokens) for prompt in prompts]
    prefills = [part.prefill_s for part in parts if part.prefill_s is not None]
    return Decoded(
        answers=tuple(part.answers[0] for part in parts),
        prefill_s=sum(prefills) if len(prefills) == len(parts) else None,
        total_s=sum(part.total_s for part in parts),
        counts={name: sum(part.counts.get(name, 0) for part in parts) for name in parts[0].counts},
    )


def row_of(key: tuple[str, str], timing: Timing, decoded: Decoded, greedy: Decoded) -> dict[str, Any]:
    """What an engine took, and how far its answers are those of its runtime's greedy decoding."""
    pairs = [(full.ids, early.ids) for full, early in zip(greedy.answers, decoded.answers, strict=True)]
    parted = [place for pair in pairs if (place := first_divergence(*pair)) is not None]
    return {
        "engine": key[0],
        "setting": key[1],
        "reason": None,
        "timing": timing.model_dump(),
        "identical_tokens": sum(identical_tokens(*pair) for pair in pairs) / sum(max(map(len, pair)) for pair in pairs),
        "identical_answers": len(pairs) - len(parted),
        "first_divergence_mean": statistics.mean(parted) if parted else None,
        "counts": dict(decoded.counts),
    }


def people(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table."""
    names = ("x greedy", "from", "to", "ms a token", "identical tokens", "answers", "parts at")
    if row["reason"] is not None:
        return {"engine": row["engine"], "setting": row["reason"]} | dict.fromkeys(names, "")
    start = {"engine": row["engine"], "setting": row["setting"]}
    timing, parts_at = row["timing"], row["first_divergence_mean"]
    a_token = timing["decode_ms_per_token"]
    values = (
        *(timing["ratio"][name] for name in ("median", "q10", "q90")),
        "" if a_token is None else a_token["median"],
        f"{row['identical_tokens']:.1%}",
        row["identical_answers"],
        "" if parts_at is None else f"{parts_at:.1f}",
    )
    return start | dict(zip(names, values, strict=True))


def describe(settings: Settings) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


if __name__ == "__main__":
    main()
