"""What all benchmark scripts share: text to measure on, quantiles, and the way results are printed."""

import json
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from exitbench.env import environment_report
from exitbench.models.load import LoadedModel
from exitbench.workloads import load_workload

__all__ = ["documents", "five_signals", "print_result", "quantiles"]

_TABLE_WIDTH = 150


def documents(loaded: LoadedModel, num_tokens: int, length: int = 480) -> list[list[int]]:
    """Documents of `length` tokens from the texts of `mini`, `num_tokens` together."""
    text = "\n\n".join(turn for sample in load_workload("mini").samples for turn in sample.turns)
    ids = loaded.tokenizer(text, add_special_tokens=False, verbose=False).input_ids[:num_tokens]
    return [ids[i : i + length] for i in range(0, len(ids), length)]


def five_signals(
    logprob: torch.Tensor, final: torch.Tensor, entropy: torch.Tensor | None = None
) -> dict[str, torch.Tensor]:
    """Five signals of one depth, one library call each: (T, V) log-probabilities -> signal -> (T,).

    Args:
        logprob: at this depth.
        final: at the last one.
        entropy: (T,) at this depth, if known.
    """
    top2 = logprob.exp().topk(2)
    return {
        "top1_id": top2.indices[:, 0],
        "top1_prob": top2.values[:, 0],
        "margin": top2.values[:, 0] - top2.values[:, 1],
        "entropy": -(logprob.exp() * logprob).sum(-1) if entropy is None else entropy,
        "kl_final": (final.exp() * (final - logprob)).sum(-1),
    }


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def print_result(title: str, rows: Sequence[dict[str, Any]], result: dict[str, Any]) -> None:
    """Print `rows` as a table, then `result` with the environment as one line of JSON."""
    table = Table(*rows[0].keys(), title=title)
    for row in rows:
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else escape(str(value)) for value in row.values()))
    console = Console()
    Console(width=max(console.width, _TABLE_WIDTH)).print(table)
    sys.stdout.write(json.dumps({"benchmark": title, **result, "environment": environment_report()}) + "\n")
