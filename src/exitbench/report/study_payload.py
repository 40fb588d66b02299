"""The numbers of a study's page, small enough to travel inside it.

A cell's values stand in plain columns by depth, a matrix of depths as its lower triangle by rows. Values are rounded
to 4 significant digits: an interval is wider than that, and the page stays a few megabytes. Of matrices, depths are
left out evenly where they would take too much; the page says so.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from exitbench.report.study_across import places_of
from exitbench.report.study_cells import Cell, Context, finite, last_checkpoints, training_of
from exitbench.report.study_figures import BY_DEPTH, BY_PAIR, PLAIN, Shown, shown
from exitbench.report.study_origin import Origins, origins_of
from exitbench.report.text import visible

__all__ = ["DIGITS", "Payload", "compact", "payload_of", "revision_text", "when"]

DIGITS = 4
"""Significant digits of what travels."""
MATRIX_BUDGET = 300_000
"""Values of all matrices together; they take about 7 bytes each."""
DIAGONAL = {"cka": 1.0, "angular_distance": 0.0}
"""What a depth is to itself, by definition; it is not measured."""
FRONTIER = ("policy_disagreement", "policy_savings", "policy_net_flops", "policy_net_bytes")
"""Figures of a policy that travel, in this order."""
_APART = ("revision", "dtype", "attention", "device", "chat_template", "seed", "created")
"""Columns by which cells are told apart that are of one model on one thing."""
_COMMIT = re.compile("[0-9a-f]{40}")
MAX_GROUPS = 8
"""Colours that can be told apart."""
OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class Payload:
    """What study.js reads, and what the template needs of it."""

    contexts: list[str]
    models: list[str]
    trained: list[int]
    """Models that have checkpoints."""
    axis: str
    """"tokens_seen" or "step": where checkpoints stand on a horizontal axis."""
    by_depth: list[Shown]
    by_pair: list[Shown]
    plain: list[Shown]
    groups: dict[str, list[str | None]]
    """Factor -> level of each model."""
    cells: list[dict[str, Any]]
    origins: Origins
    policies: list[str]
    """Policies with their probes, and below what they were held to."""
    targets: list[str]
    stride: int
    """Of matrices every so manieth depth is kept, and the last."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        named = {
            kind: [[f.name, f.title, f.meaning, f.logarithmic] for f in figures]
            for kind, figures in (("by_depth", self.by_depth), ("by_pair", self.by_pair), ("plain", self.plain))
        }
        return {
            "contexts": self.contexts,
            "models": self.models,
            "axis": self.axis,
            "groups": self.groups,
            "cells": self.cells,
            "origins": self.origins.to_json(),
            "policies": [visible(name) for name in self.policies],
            "targets": [visible(name) for name in self.targets],
            **named,
        }


def payload_of(cells: Sequence[Cell]) -> Payload:
    """The numbers of all cells that have some."""
    measured = [cell for cell in cells if cell.failure is None]
    contexts = list(dict.fromkeys(cell.context for cell in measured))
    models = list(dict.fromkeys(cell.first.model for cell in measured))
    series = training_of(measured)
    in_training = [cell for found in series.values() for cell in found]
    ended = {id(cell) for cell in last_checkpoints(measured)}
    places = {id(cell): place for found in series.values() for place, cell in enumerate(found)}
    axis = "tokens_seen" if all(c.first.tokens_seen is not None for c in in_training) and in_training else "step"
    num_values = sum(len(pairs) for cell in measured for pairs in cell.by_pair.values())
    stride = _stride(num_values)
    names = _names(measured)
    policies, targets = (sorted({held[place] for cell in measured for held in cell.policies}) for place in (0, 1))
    return Payload(
        contexts=[_context_text(context, contexts) for context in contexts],
        models=[visible(model) for model in models],
        trained=[index for index, model in enumerate(models) if any(name == model for name, _ in series)],
        axis=axis,
        by_depth=shown(BY_DEPTH, {visible(name) for cell in measured for name in cell.by_depth}),
        by_pair=shown(BY_PAIR, {visible(name) for cell in measured for name in cell.by_pair}),
        plain=shown(PLAIN, {f.name for f in PLAIN for cell in measured if cell.value(f.name) is not None}),
        groups=_groups(measured, models),
        cells=[
            {
                "model": models.index(cell.first.model),
                "context": contexts.index(cell.context),
                "place": places.get(id(cell)),
                "ended": id(cell) in ended,
                "at": getattr(cell.first, axis),
                "across": places_of(cell),
                "held": [
                    [policies.index(name), targets.index(target), *(_short(found.get(f)) for f in FRONTIER)]
                    for (name, target), found in sorted(cell.policies.items())
                ],
                "name": name,
                "level": cell.level,
                **_numbers(cell, stride),
            }
            for cell, name in zip(measured, names, strict=True)
        ],
        origins=origins_of(measured),
        policies=policies,
        targets=targets,
        stride=stride,
    )


def _numbers(cell: Cell, stride: int) -> dict[str, Any]:
    twins = cell.plain.get("ees_untrained_mean")
    null = None
    if twins is not None and finite(twins.value) is not None:
        null = _interval(twins.value, min(cell.twins, default=None), max(cell.twins, default=None))
    return {
        "when": when(cell),
        "blocks": cell.first.num_blocks,
        "plain": {f.name: _plain(cell, f.name) for f in PLAIN if cell.value(f.name) is not None},
        "loss": _short(cell.final_loss),
        "null": null,
        "n": cell.plain["ees"].n_tokens if "ees" in cell.plain else None,
        "batch": [[_short(at), _short(value)] for at, value in sorted(cell.batch.items())],
        "by_depth": {visible(name): _column(values) for name, values in sorted(cell.by_depth.items())},
        "by_pair": {visible(name): _triangle(name, values, stride) for name, values in sorted(cell.by_pair.items())},
    }


def _names(cells: Sequence[Cell]) -> list[str]:
    """What charts call each cell: its model, and what tells it apart from others of that model on the same thing."""
    alike: dict[tuple[str, Context], list[Cell]] = defaultdict(list)
    for cell in cells:
        alike[cell.first.model, cell.context].append(cell)
    return [_name(cell, alike[cell.first.model, cell.context]) for cell in cells]


def _name(cell: Cell, alike: Sequence[Cell]) -> str:
    words = [] if cell.is_checkpoint else [c for c in _APART if len({getattr(other.first, c) for other in alike}) > 1]
    told = [revision_text(str(getattr(cell.first, column) or "")) for column in words[:2]]
    return visible(", ".join([cell.first.model, *filter(None, told)]))


def revision_text(revision: str | None) -> str:
    """A revision as people read it: of a commit its beginning."""
    revision = revision or ""
    return revision[:8] if _COMMIT.fullmatch(revision) else revision


def when(cell: Cell) -> list[str]:
    """When in training this was, as far as known: ["step 1,000", "2.1 B tokens"]."""
    row = cell.first
    step = [] if row.step is None else [f"step {row.step:,}"]
    return step if row.tokens_seen is None else [*step, f"{compact(row.tokens_seen)} tokens"]


def compact(count: float) -> str:
    """A large count in three digits, e.g. "2.1 B"."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return f"{count:.0f}"


def _context_text(context: Context, all_contexts: list[Context]) -> str:
    """Workload, side and readout; of the rest what differs between contexts."""
    workload, on, readout, *_ = context
    words = [str(workload), *([] if on is None else [f"on {on}"]), f"{readout} readout"]
    for place, name in enumerate(("limit", "document tokens", "new tokens"), start=3):
        if len({other[place] for other in all_contexts}) > 1 and context[place] is not None:
            words.append(f"{name} {context[place]}")
    return visible(", ".join(words))


def _groups(cells: Sequence[Cell], models: list[str]) -> dict[str, list[str | None]]:
    """Factors that tell models apart: those with two levels or more, the rarest levels as one if they are many."""
    rows = {cell.first.model: cell.first for cell in cells}
    tags = sorted({tag for row in rows.values() for tag in row.tags})
    levels: dict[str, list[str | None]] = {
        name: [getattr(rows[model], name) for model in models] for name in ("kind", "stage", "family", "generation")
    }
    levels |= {f"tag {visible(tag)}": [rows[model].tags.get(tag) for model in models] for tag in tags}
    telling = {name: values for name, values in levels.items() if len({v for v in values if v is not None}) > 1}
    by_model = {"model": list(models)} if len(models) <= MAX_GROUPS else {}
    everything = by_model | {name: values for name, values in telling.items() if name != "model"}
    return {name: _few(values) for name, values in everything.items()} or {"all": ["all models"] * len(models)}


def _few(values: Sequence[str | None]) -> list[str | None]:
    counts = Counter(value for value in values if value is not None)
    kept = set(counts) if len(counts) <= MAX_GROUPS else {name for name, _ in counts.most_common(MAX_GROUPS - 1)}
    return [None if value is None else visible(value) if value in kept else OTHER for value in values]


def _stride(num_values: int) -> int:
    stride = 1
    while num_values / stride**2 > MATRIX_BUDGET:
        stride += 1
    return stride


def _triangle(name: str, values: dict[tuple[int, int], float], stride: int) -> dict[str, list[Any]]:
    depths = sorted({depth for pair in values for depth in pair})
    kept = sorted({*depths[::stride], depths[-1]})
    itself = DIAGONAL.get(name)
    triangle = [
        _short(values.get((low, high), itself if low == high else None)) for high in kept for low in kept if low <= high
    ]
    return {"depths": kept, "values": triangle}


def _column(values: dict[int, float]) -> list[float | None]:
    return [_short(values.get(depth)) for depth in range(max(values) + 1)]


def _plain(cell: Cell, name: str) -> list[float | None]:
    row = cell.plain[name]
    return _interval(row.value, row.low, row.high)


def _interval(*numbers: float | None) -> list[float | None]:
    return [_short(number) for number in numbers]


def _short(number: float | None) -> float | None:
    number = finite(number)
    if number is None:
        return None
    short = float(f"{number:.{DIGITS}g}")
    return int(short) if short.is_integer() else short
