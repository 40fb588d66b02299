"""Train a zoo: families of small models that differ in one thing at a time, on the same text, some seeds each.

Every member is left as ordinary checkpoints `FAMILY-SEED/step-N` with a record; what is there already is not trained
again, and a training that was killed goes on from its newest checkpoint. `zoo/*.yaml` are the studies of them.

    python studies/zoo_train.py --preset cpu --out out/zoo
    python studies/zoo_train.py --preset gpu --out out/zoo-gpu --device cuda --text hub:roneneldan/TinyStories
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from exitbench.env import environment_report
from exitbench.errors import ExitbenchError
from exitbench.files import write_json
from exitbench.models.strict import quiet_transformers
from zoo_families import FAMILIES, PRESETS, Preset
from zoo_text import found_text, given_text, prepare
from zoo_training import Member, train

FOUND = "Python's standard library and documentation of Debian packages, as found"


def members(preset: Preset, arguments: argparse.Namespace) -> list[list[Member]]:
    """Every member, in two rounds: those that are trained from scratch, then those trained on from one of them."""
    wanted = arguments.families or preset.families
    everyone = [
        Member(family_name=name, seed=seed, preset=preset, zoo=arguments.out, device=arguments.device)
        for seed in range(preset.seeds)
        for name in wanted
    ]
    return [[m for m in everyone if m.base is None], [m for m in everyone if m.base is not None]]


def timed(member: Member) -> tuple[dict[str, Any], float]:
    """Train one member with one thread; its record and the seconds that took."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    with quiet_transformers():
        return train(member), time.perf_counter() - started


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the zoo")
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--text", help="workload file or hub:ID; left out: what is found on this machine")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, help="in place of the preset's own")
    parser.add_argument("--seeds", type=int, help="in place of the preset's own")
    parser.add_argument("--steps", type=int, help="in place of the preset's own")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="members trained at once, a thread each")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    preset = PRESETS[arguments.preset]
    changes = {name: getattr(arguments, name) for name in ("seeds", "steps")}
    preset = replace(preset, **{name: value for name, value in changes.items() if value is not None})
    text = prepare(
        arguments.out / "text",
        given_text(arguments.text) if arguments.text else found_text(),
        source=arguments.text or FOUND,
        **{"vocab_size": preset.vocab_size, "row_tokens": preset.row_tokens, "held_out": preset.held_out},
    )
    started, records = time.perf_counter(), []
    with ProcessPoolExecutor(arguments.workers, multiprocessing.get_context("spawn")) as pool:
        for round_ in members(preset, arguments):
            records += list(pool.map(timed, round_))
    table = Table(
        "member", "parameters", "held-out loss", "below unigram", "seconds", title=f"Text: {text.record['source']}"
    )
    for record, seconds in records:
        figures = (f"{record['held_out_loss']:.3f}", f"{record['loss_below_unigram']:.3f}", f"{seconds:.0f}")
        table.add_row(record["member"], f"{record['parameters']:,}", *figures)
    Console().print(table)
    summary = {
        "study": "zoo",
        "preset": arguments.preset,
        "wall_s": time.perf_counter() - started,
        "members": [record | {"seconds": seconds} for record, seconds in records],
        "environment": environment_report(),
    }
    write_json(arguments.out / "zoo.json", summary)
    sys.stdout.write(json.dumps(summary) + "\n")


if __name__ == "__main__":
    try:
        main()
    except (ExitbenchError, ValueError) as error:
        sys.exit(str(error))
