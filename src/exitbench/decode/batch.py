"""One batch on its way through the blocks: who goes on, who waits, and whose state is completed how.

Tokens move as trains: consecutive tokens of some rows, the newest last, at one depth. A policy looks at the newest. A
token that leaves has its answer; its state in the blocks behind has yet to be written:

- "deferred": its train waits where it left. The next train of the row that comes by picks it up, and the blocks behind
  run on all of its tokens at once. States are those of the full model given the same tokens. No more than a given
  number of tokens wait; then they are sent on without the next one.
- "copy": the blocks behind are given its hidden state as it is, for their state alone (CALM, arXiv 2207.07061).

Rows that have left make room ("regroup": the others go on as a smaller batch) or stay ("lockstep": the train goes on
until all have left). In both, a row's answer and state are what they would be without the others.

Shapes: B rows of the batch, R rows of a train, T its tokens, D hidden size, L blocks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from exitbench.config import RowMode
from exitbench.decode.abilities import Abilities
from exitbench.decode.cache import RowStates
from exitbench.decode.probe import Looks, Reader
from exitbench.decode.stack import Calls, Stack, Tokens
from exitbench.trace.generate import padded_left

__all__ = ["Batch", "Counts", "Train"]


@dataclass(kw_only=True)
class Counts:
    """What was done, for costs."""

    block_calls: int = 0
    """Calls of blocks, each for all tokens and rows that went together."""
    block_tokens: int = 0
    """Tokens that went through a block, each row for itself; a token through L blocks counts L."""
    skipped_blocks: int = 0
    """Blocks behind the exits of decoded tokens, each token for itself; whether or not they ran later."""
    probes: int = 0
    """Looks at tokens, each row for itself."""
    completions: int = 0
    """Blocks of single tokens whose state was copied."""
    argument_passes: int = 0
    """Passes of the model's own code made only for the arguments of blocks."""
    flushes: int = 0
    """Times that waiting tokens were sent on without a next one."""
    rounds: int = 0
    """Checks of drafts."""
    drafts: int = 0
    """Tokens drafted."""
    accepted: int = 0
    """Drafts that were kept."""


@dataclass(kw_only=True, slots=True)
class Train:
    """Consecutive tokens of some rows at one depth; moves on in place, since that is done at every block."""

    rows: tuple[int, ...]
    start: int
    """Slot of the first token."""
    hidden: torch.Tensor
    """(R, T, D)"""
    left: NDArray[np.bool_]
    """(R,) whether the newest token has left already."""

    @property
    def stop(self) -> int:
        """Slot behind the last token."""
        return self.start + self.hidden.shape[1]

    def part(self, keep: NDArray[np.bool_]) -> "Train":
        """Some of the rows."""
        if keep.all():
            return self
        index = torch.from_numpy(np.flatnonzero(keep)).to(self.hidden.device)
        return replace(
            self,
            rows=tuple(row for row, kept in zip(self.rows, keep, strict=True) if kept),
            hidden=self.hidden[index],
            left=self.left[keep],
        )


@dataclass(kw_only=True)
class _Outcome:
    """What a step has brought so far, by row."""

    depth: dict[int, int] = field(default_factory=dict)
    read: dict[int, torch.Tensor] = field(default_factory=dict)
    """(1, D) to be read out for the answer."""
    raw: dict[int, torch.Tensor] = field(default_factory=dict)
    """(V',) what the head returned for it, where a probe asked."""


class Batch:
    """The rows of one batch, all in the same slots; shorter prompts are padded on the left.

    Args:
        stack: of the model, installed.
        abilities: what the model's blocks can do.
        prompts: token ids of each row.
        room: most slots behind the longest prompt.
        prober: of the policy.
        reader: of the model.
        state: how skipped blocks get their state.
        row_mode: what rows that have left do.
        most_waiting: tokens of a row that may wait.
    """

    def __init__(
        self,
        stack: Stack,
        abilities: Abilities,
        prompts: Sequence[Sequence[int]],
        *,
        room: int,
        prober: Looks,
        reader: Reader,
        state: Literal["deferred", "copy"],
        row_mode: RowMode,
        most_waiting: int,
        device: torch.device,
    ) -> None:
        self._stack, self._abilities = stack, abilities
        self.prober, self._reader = prober, reader
        self._state, self._row_mode, self._most_waiting = state, row_mode, most_waiting
        self.width = max(map(len, prompts))
        """Slots of the prompts."""
        ids, mask = padded_left(prompts, 0)
        self.ids, mask = functional.pad(ids, (0, room)).to(device), functional.pad(mask, (0, room), value=1)
        self._positions = (mask.cumsum(1) - 1).clamp_min(0).to(device)
        self._mask = None if mask.all() else mask.to(device)
        self.cache = stack.new_cache()
        self.states = RowStates(self.cache, abilities.layers)
        self._waiting: list[dict[int, tuple[int, torch.Tensor]]] = [{} for _ in range(stack.num_blocks)]
        self._arguments: dict[tuple[tuple[int, ...], int, int], Calls] = {}
        self._outcome = _Outcome()
        self.counts = Counts()
        self.checked: dict[int, torch.Tensor] = {}
        """(T, V) logits of all tokens that reached the end with a row's newest, where a step `checks`."""
        self._checks = False
        self.on_pass: Callable[[int, Train], None] | None = None
        """Told of every train before it passes a block."""

    def step(
        self,
        rows: tuple[int, ...],
        start: int,
        stop: int,
        *,
        looks: bool = True,
        finish: bool = False,
        checks: bool = False,
    ) -> tuple[torch.Tensor, list[int]]:
        """Send the tokens of some slots through the blocks; the policy looks at the last of each row.

        Args:
            rows: of the batch, rising.
            start: first slot.
            stop: slot behind the last one.
            looks: whether tokens may leave.
            finish: whether the blocks run to the end whatever leaves: for prompts.
            checks: whether all tokens that reach the end are read out, for `checked`.

        Returns:
            (R, T, V) logits, of which the last ones are those of the newest tokens, and the depth of each of these.
        """

        def drive(calls: Calls, embedded: torch.Tensor) -> torch.Tensor:
            self._arguments = {(rows, start, stop): calls}
            train = Train(
                rows=rows,
                start=start,
                hidden=embedded,
                left=np.zeros(len(rows), dtype=np.bool_),
            )
            self._send(train, 0, looks=looks, finish=finish)
            outcome = self._outcome
            if all(row in outcome.raw for row in rows):
                self._stack.head_output = torch.stack([outcome.raw[row] for row in rows])[:, None]
            read = torch.stack([outcome.read[row] for row in rows])
            # Some models' code behind the blocks relies on getting as many tokens back as it gave.
            return read if stop - start == 1 else functional.pad(read, (0, 0, stop - start - 1, 0))

        self._outcome, self._checks = _Outcome(), checks
        logits = self._stack.drive(self._tokens(rows, start, stop), self.cache, drive)
        depths = [self._outcome.depth[row] for row in rows]
        if not finish:
            self.counts.skipped_blocks += sum(self._stack.num_blocks - depth for depth in depths)
        self._flush_if_full(rows)
        return logits, depths

    def drop(self, row: int) -> None:
        """A row has ended."""
        self.states.drop(row)
        for waiting in self._waiting:
            waiting.pop(row, None)

    def pass_block(self, block: int, train: Train) -> torch.Tensor:
        """(R, T, D) after one block, counted from 0: in one go, or token by token where the block cannot do that."""
        self.states.use(block, train.rows)
        if self.on_pass is not None:
            self.on_pass(block, train)
        num_tokens = train.hidden.shape[1]
        self.counts.block_tokens += num_tokens * len(train.rows)
        if num_tokens == 1 or train.start == 0 or self._abilities.chunks[block]:
            return self._run(block, train.rows, train.start, train.hidden)
        parts = [self._run(block, train.rows, train.start + i, train.hidden[:, i : i + 1]) for i in range(num_tokens)]
        return torch.cat(parts, dim=1)

    def _run(self, block: int, rows: tuple[int, ...], start: int, hidden_RTD: torch.Tensor) -> torch.Tensor:
        """(R, T, D) after one call of a block."""
        self.counts.block_calls += 1
        calls = self.calls(rows, start, start + hidden_RTD.shape[1])
        self.cache.slots = start  # some blocks ask where they are themselves
        return self._stack.block(block, calls, hidden_RTD)

    def pass_again(self, block: int, train: Train, stop: int) -> None:
        """Give a block that was put back the first tokens of a train again, for its state alone."""
        self.pass_block(block, replace(train, hidden=train.hidden[:, : stop - train.start]))

    def _send(self, train: Train, depth: int, *, looks: bool, finish: bool) -> None:
        """Let a train go on from a depth until it ends or waits."""
        for block in range(depth, self._stack.num_blocks):
            trains = self._picked_up(train, block)
            if len(trains) > 1:
                for each in trains:
                    self._send(each, block, looks=looks, finish=finish)
                return
            train = trains[0]
            hidden = self.pass_block(block, train)
            if self._state == "copy" and not finish and train.left.any():  # in lockstep: they are along for their state
                left = torch.from_numpy(train.left).to(hidden.device)
                hidden = torch.where(left[:, None, None], train.hidden, hidden)
            previous, train.hidden = train.hidden, hidden
            if looks and block + 1 < self._stack.num_blocks and self.prober.looks_at(block + 1):
                going = self._looked_at(train, block + 1, previous, finish=finish)
                if going is None:
                    return
                train = going
        for place, row in enumerate(train.rows):
            if row not in self._outcome.depth:
                self._outcome.depth[row] = self._stack.num_blocks
                self._outcome.read[row] = train.hidden[place, -1:]
                if self._checks:
                    self.checked[row], raw = self._reader.logits(self._stack.num_blocks, train.hidden[place])
                    self._outcome.raw[row] = raw[-1]

    def _looked_at(self, train: Train, depth: int, previous: torch.Tensor, *, finish: bool) -> Train | None:
        """Let the policy look, also at the hidden states one block earlier; the train that goes on, if any does."""
        places = np.flatnonzero(~train.left)
        if len(places) == 0:
            return train
        rows = [train.rows[place] for place in places]
        hidden, before = train.hidden[:, -1], previous[:, -1]
        if len(places) < len(train.rows):
            index = torch.from_numpy(places).to(hidden.device)
            hidden, before = hidden[index], before[index]
        leaves, raw = self.prober.leaves(depth, rows, hidden, before)
        self.counts.probes += len(rows)
        if not leaves.any():
            return train
        for i in np.flatnonzero(leaves):
            self._outcome.depth[rows[i]] = depth
            self._outcome.read[rows[i]] = self._reader.translated(depth, hidden[i : i + 1])
            if raw is not None:
                self._outcome.raw[rows[i]] = raw[i]
        left = train.left.copy()
        left[places[leaves]] = True
        train = replace(train, left=left)
        if finish or (self._row_mode == "lockstep" and not left.all()):
            return train
        self._settle(train.part(left), depth)
        return None if left.all() else train.part(~left)

    def _settle(self, train: Train, depth: int) -> None:
        """See to the state behind the depth at which all rows of a train have left."""
        if self._state == "deferred":
            waiting = self._waiting[depth]
            for place, row in enumerate(train.rows):
                start, hidden = train.start, train.hidden[place : place + 1]
                if row in waiting:  # the token before left here too
                    start, earlier = waiting[row]
                    hidden = torch.cat([earlier, hidden], dim=1)
                waiting[row] = (start, hidden)
            return
        for block in range(depth, self._stack.num_blocks):
            self.states.use(block, train.rows)
            calls = self.calls(train.rows, train.start, train.stop)
            self._abilities.write_state(self._stack, self.cache, block, calls, train.hidden)
            self.counts.completions += len(train.rows)
            if self._abilities.writes[block].num_writes is None:  # it ran to its end
                self.counts.block_tokens += len(train.rows)

    def _picked_up(self, train: Train, block: int) -> list[Train]:
        """A train with what waits for it in front of a block; several where rows have different numbers waiting."""
        waiting = self._waiting[block]
        if not waiting:
            return [train]
        starts = np.array([waiting[row][0] if row in waiting else train.start for row in train.rows])
        trains = []
        for start in np.unique(starts):
            part = train.part(starts == start)
            if start < train.start:
                earlier = torch.cat([waiting.pop(row)[1] for row in part.rows])
                part = replace(part, start=int(start), hidden=torch.cat([earlier, part.hidden], dim=1))
            trains.append(part)
        return trains

    def _flush_if_full(self, rows: tuple[int, ...]) -> None:
        """Send on what waits of the rows that have as many tokens waiting as may wait, without a next one."""
        number = {row: sum(at[row][1].shape[1] for at in self._waiting if row in at) for row in rows}
        full = [row for row in rows if number[row] >= self._most_waiting]
        while full:
            depth = next(d for d, at in enumerate(self._waiting) if full[0] in at)
            start, hidden = self._waiting[depth][full[0]]
            like = [
                row
                for row in full
                if not any(row in at for at in self._waiting[:depth])
                and row in self._waiting[depth]
                and self._waiting[depth][row][0] == start
                and self._waiting[depth][row][1].shape == hidden.shape
            ]
            together = torch.cat([self._waiting[depth].pop(row)[1] for row in like])
            self._outcome = _Outcome()
            left = np.ones(len(like), dtype=np.bool_)
            train = Train(rows=tuple(like), start=start, hidden=together, left=left)
            self._send(train, depth, looks=False, finish=True)
            self.counts.flushes += 1
            full = [row for row in full if row not in like]

    def calls(self, rows: tuple[int, ...], start: int, stop: int) -> Calls:
        """What blocks are to be called with for some tokens; asked of the model once a step."""
        key = (rows, start, stop)
        if key not in self._arguments:
            self._arguments[key] = self._stack.calls(self._tokens(rows, start, stop), self.cache)
            self.counts.argument_passes += 1
        return self._arguments[key]

    def _tokens(self, rows: tuple[int, ...], start: int, stop: int) -> Tokens:
        if len(rows) == len(self.ids):
            ids, positions, mask = self.ids, self._positions, self._mask
        else:
            index = torch.tensor(rows, device=self.ids.device)
            ids, positions = self.ids[index], self._positions[index]
            mask = None if self._mask is None else self._mask[index]
        return Tokens(
            ids=ids[:, start:stop],
            positions=positions[:, start:stop],
            mask=None if mask is None else mask[:, :stop],
            first_slot=start,
        )
