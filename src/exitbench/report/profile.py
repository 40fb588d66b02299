"""A measured profile in a terminal: what each part takes, and whether the parts add up."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from exitbench.plain import plain
from exitbench.replay.profiles import MeasuredProfile, TimedPart

__all__ = ["profile_table"]


def profile_table(profile: MeasuredProfile) -> Table:
    """Milliseconds of each part by the number of tokens decoded at once."""
    rows = profile.steps.rows
    table = Table(
        box=box.SIMPLE_HEAD,
        title=Text(plain(profile.name)),
        caption=f"Median milliseconds of {profile.num_repeats} rounds (whole steps: 10th to 90th percentile), by "
        f"tokens decoded at once at a context of {profile.context}. Completion: one product of the counted size a "
        "block. Accounted: blocks and readout over whole steps.",
    )
    table.add_column("part")
    for count in rows:
        table.add_column(f"{count} token" + "s" * (count > 1), justify="right")
    spread = [
        f"{low * 1e3:.3g}-{high * 1e3:.3g}" for low, high in zip(profile.steps.q10_s, profile.steps.q90_s, strict=True)
    ]
    steps = [f"{time * 1e3:.3g} ({between})" for time, between in zip(profile.steps.median_s, spread, strict=True)]
    table.add_row("whole step", *steps)
    table.add_row(f"{len(profile.blocks)} blocks", *_sums(profile.blocks, rows))
    table.add_row("readout", *_sums([profile.readout], rows))
    table.add_row("translator", *_sums([profile.translator], rows))
    completion = ["n/a"] if profile.completion is None else _sums(profile.completion, (1,))
    table.add_row("completion of all blocks", *completion)
    table.add_row("accounted", *(f"{share:.2f}" for share in profile.accounted))
    return table


def _sums(parts: Iterable[TimedPart], rows: Sequence[int]) -> list[str]:
    parts = list(parts)
    return [f"{sum(part.at(count) for part in parts) * 1e3:.3g}" for count in rows]
