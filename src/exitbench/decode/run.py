"""One batch from its prompts to its answers, step by step.

Shapes: R rows that have not ended, V vocabulary.
"""

import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field

import torch

from exitbench.decode.batch import Batch
from exitbench.decode.engine import Answer

__all__ = ["OnToken", "Run"]

OnToken = Callable[[int, int, int], None]
"""Told of each new token as soon as it is sure: row, id, depth."""


@dataclass(kw_only=True)
class _Row:
    """One answer in the making."""

    ids: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    failure: str | None = None
    open: bool = True


class Run:
    """Greedy answers to one batch.

    Args:
        batch: of the prompts.
        limit: longest answer.
        ends: tokens that end an answer.
        on_token: told of each new token.
    """

    def __init__(self, batch: Batch, *, limit: int, ends: Set[int], on_token: OnToken) -> None:
        self.batch, self.limit = batch, limit
        self.ends, self._on_token = ends, on_token
        self.rows = [_Row() for _ in range(len(batch.ids))]
        self.prefill_s = 0.0

    @property
    def open_rows(self) -> tuple[int, ...]:
        """Rows that have not ended."""
        return tuple(number for number, row in enumerate(self.rows) if row.open)

    def answers(self) -> list[Answer]:
        """What there is so far."""
        return [Answer(ids=tuple(row.ids), depths=tuple(row.depths), failure=row.failure) for row in self.rows]

    def to_the_end(self) -> list[Answer]:
        """Run until all rows have ended."""
        started = time.perf_counter()
        self.begin()
        self.prefill_s = time.perf_counter() - started
        while self.open_rows:
            self.advance()
        return self.answers()

    def begin(self) -> None:
        """Run the prompts, and choose the first tokens."""
        rows = self.open_rows
        self.batch.prober.start(rows, [0] * len(rows))
        logits, depths = self.batch.step(rows, 0, self.batch.width, finish=True)
        self._choose(rows, logits[:, -1], depths)

    def advance(self) -> None:
        """One more token for every row that has not ended."""
        rows = self.open_rows
        position = len(self.rows[rows[0]].ids)
        slot = self.batch.width + position - 1
        self.batch.prober.start(rows, [position] * len(rows))
        logits, depths = self.batch.step(rows, slot, slot + 1)
        self._choose(rows, logits[:, -1], depths)

    def _choose(self, rows: Sequence[int], logits_RV: torch.Tensor, depths: Sequence[int]) -> None:
        """Take the most probable token of each row."""
        ids = logits_RV.argmax(-1)
        finite = logits_RV.gather(-1, ids[:, None])[:, 0].isfinite()
        for row, token, depth, is_finite in zip(rows, ids.tolist(), depths, finite.tolist(), strict=True):
            if is_finite:
                self.take(row, token, depth)
            else:
                self.fail(row, depth)

    def take(self, row: int, token: int, depth: int) -> None:
        """A new token is sure."""
        answer = self.rows[row]
        answer.ids.append(token)
        answer.depths.append(depth)
        self._on_token(row, token, depth)
        if token in self.ends or len(answer.ids) == self.limit:
            answer.open = False
            self.batch.drop(row)
        else:
            self.batch.ids[row, self.batch.width + len(answer.ids) - 1] = token

    def fail(self, row: int, depth: int) -> None:
        """A row cannot go on."""
        answer = self.rows[row]
        answer.failure = f"logits are not finite at depth {depth}, token {len(answer.ids) + 1} of the answer"
        answer.open = False
        self.batch.drop(row)
