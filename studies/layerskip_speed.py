"""How much faster do the twins of `layerskip_twins.py` decode when they draft with their own first blocks?

Lossless self-speculation against the same decoder with a policy that never leaves, one prompt at a time. The depth and
the length of drafts are chosen by time on some held-out prompts; the others are then decoded in turns, both ways, and
every answer is compared token for token. A ratio is the time of one way over the other's on the same prompt in the same
turn, and what is reported is the median over prompts of their median over turns.

    python studies/layerskip_speed.py out/twins
"""

import argparse
import json
import shlex
import statistics
import sys
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from exitbench.api import LoadedModel, load
from exitbench.decode.decoder import ExitDecoder
from exitbench.decode.engine import Decoded
from exitbench.env import environment_report
from exitbench.errors import ExitbenchError
from exitbench.files import write_json
from exitbench.policies.schedule import Schedule
from exitbench.policies.static import FixedDepth
from twin_corpus import Document, held_out, real

TWINS = ("layerskip", "plain")
DRAFTS = (2, 4, 6, 8)
"""Lengths of drafts that are tried."""


def never_leaving(loaded: LoadedModel) -> ExitDecoder:
    """The decoder with every token through every block."""
    return ExitDecoder(loaded, FixedDepth().model_copy(update={"threshold": None}))


def drafting(plain: ExitDecoder, depth: int, length: int) -> ExitDecoder:
    """The same decoder with lossless self-speculation, drafts of `length` tokens at `depth`; it looks nowhere else."""
    policy = FixedDepth(schedule=Schedule(depths=(depth,))).model_copy(update={"threshold": float(depth)})
    return ExitDecoder(plain.loaded, policy, state="lossless", draft=length, abilities=plain.abilities)


def decoded(engine: ExitDecoder, prompt: list[int], limit: int) -> Decoded:
    """One prompt, and nothing of it left to run."""
    done = engine.decode([prompt], max_new_tokens=limit)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return done


def chosen(plain: ExitDecoder, prompts: list[list[int]], limit: int) -> tuple[tuple[int, int], dict[str, float]]:
    """Depth and length of the drafts that were fastest on `prompts`, and the speedup of all, by "depth, length"."""
    decoded(plain, prompts[0], limit)
    depths = range(1, plain.loaded.adapter.num_blocks // 2 + 1)
    speedups: dict[tuple[int, int], float] = {}
    for depth, length in tqdm(list(product(depths, DRAFTS)), desc="Choosing drafts", unit="setting", mininterval=2.0):
        engine = drafting(plain, depth, length)
        ratios = [decoded(plain, p, limit).total_s / decoded(engine, p, limit).total_s for p in prompts]
        speedups[depth, length] = statistics.median(ratios)
    best = max(speedups, key=lambda setting: speedups[setting])
    return best, {f"{depth}, {length}": speedup for (depth, length), speedup in speedups.items()}


def timed(
    engines: dict[str, ExitDecoder], prompts: list[list[int]], limit: int, repeats: int
) -> tuple[dict[str, np.ndarray], dict[str, list[list[Decoded]]]]:
    """Seconds a token of each engine, (repeats, prompts), in turns whose order alternates; and what was decoded."""
    seconds = {name: np.zeros((repeats, len(prompts))) for name in engines}
    runs: dict[str, list[list[Decoded]]] = {name: [] for name in engines}
    for repeat in tqdm(range(repeats), desc="Timing", unit="turn", mininterval=2.0):
        for name in engines:
            runs[name].append([])
        for number, prompt in enumerate(prompts):
            for name in sorted(engines, reverse=(repeat + number) % 2 == 1):
                done = decoded(engines[name], prompt, limit)
                seconds[name][repeat, number] = done.total_s / done.num_tokens
                runs[name][repeat].append(done)
    return seconds, runs


def measure(loaded: LoadedModel, documents: list[Document], arguments: argparse.Namespace) -> dict[str, Any]:
    """One twin: the drafts chosen on every other prompt, the speedup on the rest."""
    ids = [loaded.tokenizer(document.prompt, add_special_tokens=False).input_ids for document in documents]
    limit = arguments.max_new_tokens
    plain = never_leaving(loaded)
    (depth, length), tried = chosen(plain, ids[::2][:: arguments.thin], limit)
    engines = {"drafting": drafting(plain, depth, length), "never leaving": plain}
    seconds, runs = timed(engines, ids[1::2], limit, arguments.repeats)
    ratios = np.median(seconds["never leaving"] / seconds["drafting"], axis=0)
    answers = {name: [[done.answers[0].ids for done in turn] for turn in turns] for name, turns in runs.items()}
    counts = [Counter(done.counts) for done in runs["drafting"][0]]
    kinds = [document.kind for document in documents[1::2]]
    return {
        "draft_depth": depth,
        "draft_tokens": length,
        "num_blocks": loaded.adapter.num_blocks,
        "speedup": {"median": float(np.median(ratios)), "min": float(ratios.min()), "max": float(ratios.max())},
        "speedup_quartiles": [float(q) for q in np.percentile(ratios, (25, 75))],
        "speedup_by_kind": {
            kind: float(np.median(ratios[[k == kind for k in kinds]])) for kind in dict.fromkeys(kinds)
        },
        "ms_per_token": {name: 1000 * float(np.median(values)) for name, values in seconds.items()},
        "differing_answers": sum(
            a != b for pair in zip(*answers.values(), strict=True) for a, b in zip(*pair, strict=True)
        ),
        "compared_answers": len(kinds) * arguments.repeats,
        "n_prompts": len(kinds),
        "n_tokens": sum(len(ids) for ids in answers["never leaving"][0]),
        "counts": dict(sum(counts, Counter())),
        "speedup_when_choosing": tried,
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("twins", type=Path, help="--out of layerskip_twins.py; results go to its folder measured")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--text", type=Path, help="as the twins were trained with")
    parser.add_argument("--seed", type=int, default=0, help="of the prompts")
    parser.add_argument("--prompts", type=int, default=12, help="of each kind, half of them to choose drafts on")
    parser.add_argument("--thin", type=int, default=3, help="choose drafts on every n-th of those, for time's sake")
    parser.add_argument("--max-new-tokens", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=5, help="turns")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    documents = held_out(arguments.seed, real(arguments.text) if arguments.text else [], per_kind=arguments.prompts)
    twins = {
        name: measure(
            load(str(arguments.twins / name), device=arguments.device, dtype=arguments.dtype), documents, arguments
        )
        for name in TWINS
    }
    table = Table("twin", "drafts", "speedup", "ms a token", "differing answers", title="Lossless self-speculation")
    for name, row in twins.items():
        low, high = row["speedup_quartiles"]
        table.add_row(
            name,
            f"{row['draft_tokens']} at depth {row['draft_depth']} of {row['num_blocks']}",
            f"{row['speedup']['median']:.2f} (quartiles {low:.2f} to {high:.2f})",
            " / ".join(f"{ms:.2f}" for ms in row["ms_per_token"].values()),
            f"{row['differing_answers']} of {row['compared_answers']}",
        )
    Console().print(table)
    command = shlex.join(sys.argv)
    result = {"study": "layerskip twins, speed", "twins": twins, "command": command}
    result |= {"repeats": arguments.repeats, "environment": environment_report()}
    write_json(arguments.twins / "measured" / "speed.json", result)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    try:
        main()
    except ExitbenchError as error:
        sys.exit(str(error))
