"""A model's parts and its anatomy as tables for the terminal: alike blocks in one row."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from exitbench.models.shape import BlockShape, ModelShape

__all__ = ["anatomy_table", "block_ranges", "paths_table"]

_CONTEXT = 512


def paths_table(paths: Mapping[str, Any]) -> Table:
    """Where a model's parts were found.

    Args:
        paths: `ModulePaths` as plain values.
    """
    blocks = paths["blocks"]
    table = Table("part", "found")
    for name, found in {
        "embedding": paths["embedding"],
        "blocks": blocks[0] if len(blocks) == 1 else f"{len(blocks)}: {blocks[0]} to {blocks[-1]}",
        "after the blocks": ", ".join(paths["tail"]),
        "head": paths["head"],
        "quirks": "; ".join(paths["quirks"]) or "none",
    }.items():
        table.add_row(name, Text(found))
    return table


def anatomy_table(shape: ModelShape) -> Table:
    """What each kind of block is and costs, and where the model's parameters are."""
    count = shape.parameters
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption=f"{shape.num_parameters:,} parameters: embedding {count.embedding:,}, blocks {count.blocks:,}, "
        f"output {count.output:,}, idle {count.idle:,}. Each block: active parameters, share of the blocks' work; for "
        f"a token decoded at a context of {_CONTEXT}: MFLOPs, MiB of weights read, KiB of state of fixed size, bytes "
        "of state that a position adds.",
    )
    table.add_column("blocks")
    table.add_column("kind", min_width=16)
    for heading in ("parameters", "active", "work", "MFLOP", "MiB", "KiB", "B"):
        table.add_column(heading, justify="right", no_wrap=True)
    for block, numbers in _alike(shape.blocks).items():
        flops = block.decode_flops(_CONTEXT)
        cells = (
            *(block_ranges(numbers), block.kind, f"{block.parameters:,}", f"{block.active_parameters:,}"),
            *(f"{shape.block_costs[numbers[0] - 1]:.3f}", "n/a" if flops is None else f"{flops / 1e6:.3g}"),
            *(f"{block.weight_bytes / 2**20:.3g}", f"{block.state_bytes / 2**10:.3g}"),
            f"{block.state_bytes_per_position:,}",
        )
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _alike(blocks: Sequence[BlockShape]) -> dict[BlockShape, list[int]]:
    """Numbers, from 1, of the blocks that are alike in everything."""
    numbers: dict[BlockShape, list[int]] = {}
    for number, block in enumerate(blocks, start=1):
        numbers.setdefault(block, []).append(number)
    return numbers


def block_ranges(numbers: Sequence[int]) -> str:
    """Rising numbers in short, e.g. "1-3, 7"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
