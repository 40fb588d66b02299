"""The token explorer's data: a trace cut down to what the page shows, in compact arrays.

Row t of a trace predicts `target_id`; the page shows that token, coloured by the row's decision depth, and on
demand the top-1 token and its probability at each depth; of a fast trace, which has neither, the decision
alone. Token ids become indices into a table of the
strings that occur, and arrays travel as base64 of little-endian integers, 5 to 8 bytes a (token, depth).
Where a trace does not fit the budget, whole prompts are left out, evenly over the categories, and the page
says so.

Non-goals: the page's look (page.js) and any figure of the score.
"""

import base64
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exitbench.report.text import visible, visible_token
from exitbench.trace.decided import first_match_depths
from exitbench.trace.table import SampleInfo, Trace

__all__ = ["EXPLORER_BUDGET_BYTES", "PROBABILITY_STEPS", "explorer_payload"]

EXPLORER_BUDGET_BYTES = 10_000_000
"""For all explorers of a page together; the charts' library takes 1 MB more."""
PROBABILITY_STEPS = 10_000
"""Probabilities travel as integers 0..PROBABILITY_STEPS."""

_MISSING = 65_535
_BYTES_PER_CELL = 8  # (4 for an index, 2 for a probability) in base64, at most
_MAX_PROMPT_CHARACTERS = 6_000


def explorer_payload(trace: Trace, *, budget_bytes: int) -> dict[str, Any]:
    """Return the explorer's data as plain JSON values.

    Args:
        trace: what to show.
        budget_bytes: size that the arrays and prompts may take; the table of token strings comes on top.
    """
    num_rows = np.bincount(trace.sample_index, minlength=len(trace.samples))
    traced = [index for index in range(len(trace.samples)) if num_rows[index]]
    chosen = _within_budget(trace, traced, num_rows, budget_bytes)
    rows = np.flatnonzero(np.isin(trace.sample_index, chosen))
    top1_id = trace.signals.get("top1_id", trace.final_id[:, None])[rows].astype(np.int64)
    ids, indices = np.unique(np.concatenate([top1_id.ravel(), trace.target_id[rows]]), return_inverse=True)
    top1, target = indices[: top1_id.size].reshape(top1_id.shape), indices[top1_id.size :]
    index_type = "<u2" if len(ids) <= _MISSING else "<u4"
    starts = np.concatenate([[0], np.cumsum(num_rows[chosen])])
    by_depth = None
    if trace.signals:
        by_depth = {
            "top1": _packed(top1, index_type),
            "probability": _packed(_quantised(trace.signals["top1_prob"][rows]), "<u2"),
            "first": _packed(first_match_depths(top1), "<u2"),
        }
    return {
        "num_blocks": trace.num_blocks,
        "on": trace.manifest.settings.on,
        "num_shown": len(chosen),
        "num_traced": len(traced),
        "strings": [visible_token(trace.token_strings.get(int(i), f"(token {i})")) for i in ids],
        "samples": [
            _sample(trace.samples[index]) | {"rows": [int(starts[k]), int(starts[k + 1])]}
            for k, index in enumerate(chosen)
        ],
        "wide": index_type == "<u4",
        "target": _packed(target, index_type),
        "final": _packed(top1[:, -1], index_type),
        "decided": _packed(trace.decision_depth[rows], "<u2"),
        "turn": _packed(trace.turn[rows], "<u2"),
        "by_depth": by_depth,
    }


def _within_budget(trace: Trace, traced: list[int], num_rows: NDArray[np.int64], budget_bytes: int) -> list[int]:
    """Samples to show: the first of every category, then the second of every one, as far as they fit."""
    seen: Counter[str] = Counter()
    queue = []
    for index in traced:
        category = trace.samples[index].category
        queue.append((seen[category], index))
        seen[category] += 1
    cells = trace.num_blocks + 1 if trace.signals else 1
    chosen, left = [], budget_bytes
    for _, index in sorted(queue):
        turns = _sample(trace.samples[index])["turns"]
        left -= int(num_rows[index]) * cells * _BYTES_PER_CELL
        left -= sum(len(turn.encode()) for turn in turns)
        if left < 0:
            break
        chosen.append(index)
    return sorted(chosen)


def _sample(sample: SampleInfo) -> dict[str, Any]:
    return {
        "id": visible(sample.id),
        "category": visible(sample.category),
        "turns": [visible(_clipped(turn)) for turn in sample.turns],
    }


def _clipped(text: str) -> str:
    left_out = len(text) - _MAX_PROMPT_CHARACTERS
    return text if left_out <= 0 else f"{text[:_MAX_PROMPT_CHARACTERS]}\n[... {left_out} more characters]"


def _quantised(probability: NDArray[np.generic]) -> NDArray[np.int64]:
    scaled = np.round(probability.astype(np.float64) * PROBABILITY_STEPS)
    return np.where(np.isnan(scaled), _MISSING, scaled).astype(np.int64)


def _packed(values: NDArray[np.generic], dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=dtype).tobytes()).decode("ascii")
