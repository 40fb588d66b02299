"""Do tokens leave in decoding where replay says they do?

The model's own answers are traced, a policy is replayed on the trace, and the same answers are fed through the decoder
with exact state, token by token, as real decoding would see them. In other shapes numbers are rounded otherwise, so a
token may leave elsewhere if its score lies near the threshold. How near is measured: the largest difference of the
score between trace and decoder, over all tokens and probes that both have seen. Tokens that leave elsewhere are
counted, and those whose score is not that near are errors.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common import print_result
from exitbench.api import ExitPolicy, LoadedModel, Trace, TraceOptions, load, trace
from exitbench.decode.decoder import ExitDecoder
from exitbench.policies import POLICIES, Schedule
from exitbench.policies.files import policy_from_json
from exitbench.replay.look import look
from exitbench.trace.prompts import conversation_ids

POLICIES_TRIED = (("top1-prob", 0.8, "every-5"), ("entropy", -1.0, "every-5"), ("hidden-cosine", -0.03, "every"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--workload", default="mini")
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--max-new-tokens", type=int, default=32)
    arguments = parser.parse_args()

    loaded = load(arguments.model, dtype=arguments.dtype)
    options = TraceOptions(limit=arguments.limit, max_new_tokens=arguments.max_new_tokens)
    with tempfile.TemporaryDirectory() as folder:
        traced = trace(loaded, arguments.workload, out=Path(folder), options=options)
    num_blocks = loaded.adapter.num_blocks
    abilities, rows = None, []
    for name, threshold, probes in POLICIES_TRIED:
        policy = POLICIES.get(name)(threshold=threshold, schedule=Schedule.parse(probes))
        policy = policy_from_json(policy.to_json(), num_blocks=num_blocks)
        decoder = ExitDecoder(loaded, policy, abilities=abilities)
        abilities = decoder.abilities
        rows.append(
            {"policy": name, "threshold": threshold, "probes": probes} | _compare(loaded, traced, policy, decoder)
        )
    print_result(
        f"{arguments.model}, {arguments.dtype}: exits in decoding and in replay",
        rows,
        {"model": arguments.model, "n_prompts": len(traced.samples), "n_tokens": traced.num_tokens, "policies": rows},
    )


def _compare(loaded: LoadedModel, traced: Trace, policy: ExitPolicy, decoder: ExitDecoder) -> dict[str, Any]:
    seen = look(traced, policy)
    replayed = policy.exits(seen)
    (name,) = policy.signals
    followed, signal = np.empty_like(replayed), np.full(seen.signals[name].shape, np.nan)
    for rows, prompt in _answers(loaded, traced):
        (answer,) = decoder.follow([prompt], [traced.target_id[rows].tolist()])
        followed[rows] = answer.depths
        for row, signals in zip(rows, answer.signals, strict=True):
            reached = seen.depths <= followed[row]
            signal[row, reached] = signals[name][reached]
    here, there = policy.scores(seen), policy.scores(replace(seen, signals={name: signal}))
    rounding = float(np.nanmax(np.abs(here - there)))
    differ = np.flatnonzero(replayed != followed)
    probe = np.searchsorted(seen.depths, np.minimum(replayed, followed)[differ])
    distance = np.abs(here[differ, probe] - (policy.threshold or 0.0))
    return {
        "mean_depth": float(replayed.mean()),
        "n_tokens": len(replayed),
        "leave_elsewhere": len(differ),
        "farther_than_rounding": int((distance > rounding).sum()),
        "rounding": rounding,
    }


def _answers(loaded: LoadedModel, traced: Trace) -> Iterator[tuple[NDArray[np.int64], list[int]]]:
    """Rows of every answer of a trace, and the prompt that it follows."""
    chat = traced.manifest.settings.chat_template
    for index, sample in enumerate(traced.samples):
        texts: list[str] = []
        for turn in range(len(sample.turns)):
            rows = np.flatnonzero((traced.sample_index == index) & (traced.turn == turn))
            if len(rows):
                yield rows, conversation_ids(loaded.tokenizer, sample.turns[: turn + 1], texts, chat=chat)
                texts.append(str(loaded.tokenizer.decode(traced.target_id[rows].tolist(), skip_special_tokens=True)))


if __name__ == "__main__":
    main()
