"""Train a small causal language model with LayerSkip's recipe (arXiv 2404.16710), and its twin without.

Both start from the same weights and see the same rows in the same order; only stochastic depth and the losses at
shallower depths tell them apart. Each is left as an ordinary checkpoint with a record of its training. A folder with a
checkpoint is complete: training writes beside it and renames. A twin that is there already is not trained again.
`layerskip_measure.py` measures what came of it.

    python studies/layerskip_twins.py --out out/twins
    python studies/layerskip_twins.py --out out/twins --size large --device cuda
"""

import argparse
import json
import math
import shlex
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from early_exit_training import (
    PLAIN,
    Recipe,
    active_depths,
    dropout_rates,
    exit_weights,
    losses_by_depth,
)
from exitbench.env import environment_report
from exitbench.errors import ExitbenchError
from exitbench.files import write_json
from exitbench.models.toy import byte_tokenizer
from twin_corpus import Document, held_out, mixed, real
from whole_folders import whole_folder

RECORD = "training.json"


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the twins are, and how long they train."""

    num_blocks: int
    hidden: int
    heads: int
    row_tokens: int
    """Tokens predicted of each row."""
    rows: int
    """Of one step."""
    steps: int
    learning_rate: float
    """Highest; reached after a tenth of the steps, it falls to a twentieth along a cosine."""
    recipe: Recipe
    """Of the twin that has one."""
    held_out: int
    """Documents held out of each kind, for the losses by depth."""


SIZES = {
    "tiny": Size(
        **{"num_blocks": 4, "hidden": 32, "heads": 2, "row_tokens": 96, "rows": 8, "steps": 60, "learning_rate": 1e-2},
        recipe=Recipe(max_dropout=0.1, exit_scale=1.0),
        held_out=2,
    ),
    "small": Size(
        **{"num_blocks": 12, "hidden": 128, "heads": 4, "row_tokens": 256, "rows": 4, "steps": 1200},
        learning_rate=2e-3,
        recipe=Recipe(max_dropout=0.1, dropout_curriculum=True, exit_scale=1.0),
        held_out=24,
    ),
    "large": Size(
        **{"num_blocks": 24, "hidden": 768, "heads": 12, "row_tokens": 512, "rows": 32, "steps": 1000},
        learning_rate=1e-3,
        recipe=Recipe(max_dropout=0.1, dropout_curriculum=True, exit_scale=1.0, rotation=6),
        held_out=64,
    ),
}


def new_model(size: Size, seed: int, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A model with random weights, the same for the same arguments."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=round(size.hidden * 8 / 3 / 8) * 8,
        num_hidden_layers=size.num_blocks,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=2 * size.row_tokens,
        **{"eos_token_id": 0, "pad_token_id": 1, "bos_token_id": 2},
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config)


def packed(documents: Iterable[Document], tokenizer: PreTrainedTokenizerFast, length: int) -> Iterator[torch.Tensor]:
    """Rows of `length` token ids, whole documents with end tokens, the last of a row cut off."""
    row: list[int] = []
    for document in documents:
        row += [*tokenizer(document.text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        if len(row) >= length:
            yield torch.tensor(row[:length])
            row = []


@torch.no_grad()
def held_out_losses(model: LlamaForCausalLM, rows_NT: torch.Tensor) -> dict[int, float]:
    """Mean loss at each depth, 1 to L, in nats a token."""
    depths = list(range(1, model.config.num_hidden_layers + 1))
    total = dict.fromkeys(depths, 0.0)
    for row_T in rows_NT:
        for depth, loss in losses_by_depth(model, row_T[None], depths).items():
            total[depth] += float(loss) / len(rows_NT)
    return total


def train(
    model: LlamaForCausalLM, batches: Iterator[torch.Tensor], size: Size, recipe: Recipe, seed: int, label: str
) -> dict[str, Any]:
    """Train in place; return what was applied of the recipe: skipped share of each block, losses in which depths."""
    device, blocks = model.device, size.num_blocks
    optimiser = torch.optim.AdamW(model.parameters(), lr=1.0, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    warm = max(size.steps // 10, 1)

    def pace(step: int) -> float:
        cosine = math.cos(math.pi * max(step - warm, 0) / max(size.steps - warm, 1))
        return size.learning_rate * min((step + 1) / warm, 0.525 + 0.475 * cosine)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, pace)
    draw = torch.Generator().manual_seed(seed)
    skipped_L, turns = torch.zeros(blocks), dict.fromkeys(range(1, blocks + 1), 0)
    bar = tqdm(range(size.steps), desc=f"Training {label}", unit="step", mininterval=2.0)
    for step in bar:
        rates_L = torch.tensor(dropout_rates(blocks, recipe, step / max(size.steps - 1, 1)))
        kept_LB = torch.rand(blocks, size.rows, generator=draw) >= rates_L[:, None]
        skipped_L += (~kept_LB).float().mean(dim=1) / size.steps
        depths = active_depths(blocks, recipe, step)
        weights = exit_weights(blocks, recipe, depths)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            losses = losses_by_depth(
                model, next(batches).to(device), depths, kept_LB.to(device) if recipe.max_dropout else None
            )
            loss = torch.stack([weights[depth] * losses[depth] for depth in depths]).sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        for depth in depths:
            turns[depth] += 1
        if step % 20 == 0:
            bar.set_postfix(loss=f"{losses[blocks].item():.3f}")
    return {"skipped_share_by_block": [round(float(share), 4) for share in skipped_L], "losses_by_depth": turns}


def make_twin(
    folder: Path, size: Size, recipe: Recipe, arguments: argparse.Namespace, texts: list[Document]
) -> dict[str, Any]:
    """Train one twin into `folder`, or find it there; its record.

    Raises:
        ExitbenchError: the folder holds a twin of other settings.
    """
    settings = {
        **{"size": asdict(size), "recipe": asdict(recipe), "seed": arguments.seed, "device": arguments.device},
        "texts": len(texts),
    }
    if (folder / RECORD).is_file():
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if record["settings"] != settings:
            raise ExitbenchError(f"{folder} holds a twin of other settings; delete it, or choose another --out")
        return record
    tokenizer = byte_tokenizer(chat=False)
    model = new_model(size, arguments.seed, tokenizer).to(arguments.device)
    rows = packed(mixed(arguments.seed, texts), tokenizer, size.row_tokens + 1)
    batches = (torch.stack([next(rows) for _ in range(size.rows)]) for _ in range(size.steps))
    judged = held_out(arguments.seed, texts, per_kind=size.held_out)
    judged_NT = torch.stack(list(packed(judged, tokenizer, size.row_tokens + 1))).to(arguments.device)
    before = held_out_losses(model, judged_NT)
    started = time.perf_counter()
    applied = train(model, batches, size, recipe, arguments.seed, folder.name)
    record = {
        "twin": folder.name,
        "settings": settings,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokens_seen": size.steps * size.rows * size.row_tokens,
        "training_s": time.perf_counter() - started,
        "applied": applied,
        "held_out_tokens": judged_NT[:, 1:].numel(),
        "held_out_loss_before": before,
        "held_out_loss": held_out_losses(model, judged_NT),
        "command": shlex.join(sys.argv),
        "environment": environment_report(),
    }
    with whole_folder(folder) as unfinished:
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        write_json(unfinished / RECORD, record)
    read: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))  # keys as they are in the file
    return read


def sized(arguments: argparse.Namespace) -> Size:
    """The size asked for, with what was changed about it."""
    size = SIZES[arguments.size]
    if arguments.steps is not None:
        size = replace(size, steps=arguments.steps)
    changes = {name: getattr(arguments, name) for name in ("max_dropout", "exit_scale", "rotation")}
    recipe = replace(size.recipe, **{name: value for name, value in changes.items() if value is not None})
    return replace(size, recipe=recipe)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the folders layerskip and plain")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--text", type=Path, help="workload file; every third document is then a piece of it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="in place of the size's own")
    parser.add_argument("--max-dropout", type=float, help="in place of the recipe's own")
    parser.add_argument("--exit-scale", type=float, help="in place of the recipe's own")
    parser.add_argument("--rotation", type=int, help="in place of the recipe's own")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    size = sized(arguments)
    texts = real(arguments.text) if arguments.text else []
    records = {
        name: make_twin(arguments.out / name, size, recipe, arguments, texts)
        for name, recipe in (("layerskip", size.recipe), ("plain", PLAIN))
    }
    table = Table(
        "depth", *records, title=f"Loss on {records['plain']['held_out_tokens']} held-out tokens, nats a token"
    )
    for depth in records["plain"]["held_out_loss"]:
        table.add_row(depth, *(f"{record['held_out_loss'][depth]:.3f}" for record in records.values()))
    Console().print(table)
    sys.stdout.write(json.dumps({"study": "layerskip twins", "twins": records}) + "\n")


if __name__ == "__main__":
    try:
        main()
    except ExitbenchError as error:
        sys.exit(str(error))
