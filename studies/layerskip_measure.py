"""What LayerSkip's recipe does to how suitable a model is for early exit: the twins of `layerskip_twins.py`, measured.

Both twins answer the same held-out prompts, each its own way; EES is that of their own answers, prompts resampled. So
are the figures on what drafts at each depth would meet: how often a depth says what the full model says, and what
lossless self-speculation is projected to gain. Whether the twins differ is a paired question: both are given the same
resampled prompts.

    python studies/layerskip_measure.py out/twins
"""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from exitbench.api import TraceOptions, load, score, trace
from exitbench.env import environment_report
from exitbench.errors import ExitbenchError
from exitbench.files import write_json
from exitbench.models.toy import byte_tokenizer
from exitbench.progress import Progressor
from exitbench.score import ScoreCard
from exitbench.stats.bootstrap import Bootstrap, Prompts, draw_weights
from exitbench.stats.figure import Figure
from exitbench.trace.decided import remaining_costs
from exitbench.trace.table import Trace
from exitbench.workloads import Sample, Workload
from layerskip_twins import RECORD
from twin_corpus import Document, held_out, real

TWINS = ("layerskip", "plain")
FIGURES = ("ees", "ees_star", "ees_first_match", "aes_1pct", "aes_5pct", "lossless_projection", "generated_mismatch")
DRAWS = 2000


def as_workload(documents: list[Document], name: str) -> Workload:
    """Prompts of documents, their kind as category."""
    samples = tuple(
        Sample(id=f"{number}", category=document.kind, turns=(document.prompt,), reference=document.answer)
        for number, document in enumerate(documents)
    )
    return Workload(name=name, version="unversioned", licence=None, kind="prompts", samples=samples)


def difference(first: Trace, second: Trace) -> Figure | None:
    """EES of the first less that of the second, on the same prompts: tokens may differ, resampled prompts do not."""
    prompts = [Prompts.of(traced) for traced in (first, second)]
    assert prompts[0].categories == prompts[1].categories, "the twins answered different prompts"
    weights = draw_weights(prompts[0].categories, draws=DRAWS, rng=np.random.default_rng(0))
    means = []
    for of, traced in zip(prompts, (first, second), strict=True):
        rho = remaining_costs(traced.manifest.shape.block_costs)
        means.append(Bootstrap(weights=weights).mean(of.sums(rho[traced.decision_depth]), of.counts()))
    return means[0].map(np.subtract, means[1]).figure()


def as_expected(traced: Trace, documents: list[Document]) -> dict[str, float]:
    """Share of answers that are the document's own as far as they go, end token included, by kind.

    What an answer leaves open, such as what the animal of a story had lost, cannot be expected.
    """
    tokenizer, hits = byte_tokenizer(chat=False), dict[str, list[bool]]()
    for number, document in enumerate(documents):
        ids = traced.target_id[traced.sample_index == number].tolist()
        expected = [*tokenizer(document.answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        hits.setdefault(document.kind, []).append(ids == expected[: len(ids)])
    return {kind: sum(hit) / len(hit) for kind, hit in hits.items()}


def rows_of(cards: dict[str, ScoreCard]) -> list[tuple[str, ...]]:
    """The table for people."""
    rows = []
    for field in FIGURES:
        figures = [getattr(card, field) for card in cards.values()]
        rows.append((field, *("n/a" if figure is None else figure.text() for figure in figures)))
    for depth in range(1, cards["plain"].shape.num_blocks):
        curves = [card.agreement for card in cards.values()]
        rows.append((f"agreement at depth {depth}", *(f"{curve.value[depth]:.3f}" for curve in curves if curve)))
    return rows


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("twins", type=Path, help="--out of layerskip_twins.py; results go to its folder measured")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--text", type=Path, help="as the twins were trained with")
    parser.add_argument("--seed", type=int, default=0, help="of the prompts")
    parser.add_argument("--prompts", type=int, default=24, help="of each kind")
    parser.add_argument("--max-new-tokens", type=int, default=96)
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    documents = held_out(arguments.seed, real(arguments.text) if arguments.text else [], per_kind=arguments.prompts)
    options = TraceOptions(max_new_tokens=arguments.max_new_tokens, seed=arguments.seed)
    command, measured = shlex.join(sys.argv), arguments.twins / "measured"
    workload, progress = as_workload(documents, "twins"), Progressor(Console(stderr=True))
    traces = {
        name: trace(
            load(str(arguments.twins / name), device=arguments.device, progress=progress),
            workload,
            **{"out": measured / name, "options": options, "command": command, "progress": progress},
        )
        for name in TWINS
    }
    cards = {name: score(traced) for name, traced in traces.items()}
    table = Table("", *cards, title=f"{len(documents)} held-out prompts, {cards['plain'].shape.num_blocks} blocks")
    for row in rows_of(cards):
        table.add_row(*row)
    Console().print(table)
    apart = difference(traces["layerskip"], traces["plain"])
    result: dict[str, Any] = {
        "study": "layerskip twins, suitability",
        "ees_difference": apart and apart.model_dump(),
        "twins": {
            name: {field: figure and figure.model_dump() for field in FIGURES for figure in (getattr(card, field),)}
            | {"agreement": card.agreement and card.agreement.as_json(), "drafts": card.lossless_drafts}
            | {"answers_as_expected": as_expected(traces[name], documents)}
            | {"training": json.loads((arguments.twins / name / RECORD).read_text(encoding="utf-8"))["settings"]}
            for name, card in cards.items()
        },
        "command": command,
        "environment": environment_report(),
    }
    write_json(measured / "suitability.json", result)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    try:
        main()
    except ExitbenchError as error:
        sys.exit(str(error))
