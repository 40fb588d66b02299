"""The trial that every model passes before it is decoded with early exit, and what it shows of the blocks.

A model needs no more for a decoder than that its blocks can be called by us (`stack`). Whether that is so, and what
else goes, is tried on each load, on random tokens that leave at set depths, against the model's own hidden states after
one pass over the same tokens:

- leaving anywhere, with the tokens that wait sent on one by one: else the model is refused;
- the waiting tokens sent on together, for each kind of block;
- rows that leave at different depths, taken apart and put together again;
- blocks put back to an earlier state;
- for the state of a skipped block, stopping it after its last write, and leaving out products that no write needs.

Errors are root mean squares of logits; the tolerance is the model's own rounding error at its dtype, as measured by
`models.validate`. The last item is held to the same bits.

Shapes: B rows, L blocks, R tokens, V vocabulary.
"""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from exitbench.decode.abilities import Abilities, StateWrite
from exitbench.decode.batch import Batch, Train
from exitbench.decode.cache import same_state, state_of
from exitbench.decode.probe import Reader
from exitbench.decode.stack import Calls, Stack
from exitbench.errors import DecodeError
from exitbench.models.discover import probe_ids
from exitbench.models.load import ProvedModel
from exitbench.models.strict import LOAD_ERRORS, one_line

__all__ = ["find_abilities"]

_PROMPT, _STEPS = 24, 9
_SHORTER_BY = (0, 5, 2)
"""Tokens by which the prompts of the three rows of the trial are shorter than the longest."""


@torch.inference_mode()
def find_abilities(loaded: ProvedModel, stack: Stack) -> Abilities:
    """Find out how a model can be decoded.

    Raises:
        DecodeError: with early exit not at all; says what was tried.
    """
    trial = _Trial(loaded, stack)
    with stack.installed():
        try:
            found = trial.layers()
            error = trial.error(found, rows=1)
        except LOAD_ERRORS as failure:
            raise DecodeError(f"{trial.refused}: {one_line(failure)}") from failure
        if not error <= trial.tolerance:
            raise DecodeError(
                f"{trial.refused}: tokens that leave early differ from the model's own by {error:.3g}, its rounding "
                f"error allows {trial.tolerance:.3g}"
            )
        found = replace(found, chunks=trial.chunks(found))
        found = replace(found, separates_rows=trial.holds(found, rows=len(_SHORTER_BY)))
        found = replace(found, rolls_back=trial.rolls_back(found))
        return replace(found, writes=trial.writes(found))


class _Script:
    """Leaves where it is written, whatever a token looks like."""

    def __init__(self, num_blocks: int) -> None:
        self._num_blocks = num_blocks
        self._step = 0

    def start(self, rows: Sequence[int], positions: Sequence[int]) -> None:
        self._step = positions[0]

    def looks_at(self, depth: int) -> bool:
        return True

    def depth(self, row: int, step: int) -> int:
        """Every third token runs to the end, so that all that waits is picked up."""
        return self._num_blocks if step % 3 == 2 else 1 + (7 * step + 3 * row) % self._num_blocks

    def leaves(
        self, depth: int, rows: Sequence[int], hidden_RD: torch.Tensor, previous_RD: torch.Tensor
    ) -> tuple[NDArray[np.bool_], torch.Tensor | None]:
        return np.array([self.depth(row, self._step) == depth for row in rows]), None


class _Trial:
    """Random tokens of three rows, and what the model itself makes of them at every depth."""

    def __init__(self, loaded: ProvedModel, stack: Stack) -> None:
        self._stack, self._model, self._adapter = stack, loaded.model, loaded.adapter
        self._kinds = [(block.kind, block.window is None) for block in loaded.shape.blocks]
        self._reader = Reader(loaded, None)
        self.refused = f"{type(loaded.model).__name__} cannot be decoded with early exit"
        self.tolerance = next(check.tolerance for check in loaded.checks if check.name == "cache")
        length = _PROMPT + _STEPS
        ids = probe_ids(loaded.model, length * len(_SHORTER_BY)).view(len(_SHORTER_BY), length)
        skipped = _SHORTER_BY if loaded.can_pad else (0,) * len(_SHORTER_BY)
        self._rows = [row[short:].tolist() for row, short in zip(ids, skipped, strict=True)]
        self._expected = [self._logits(row, tokens) for row, tokens in enumerate(self._rows)]
        until_second = torch.tensor([self._rows[0][: 2 - _STEPS]], device=loaded.model.device)
        self._full = loaded.adapter.readout(loaded.adapter.capture(until_second, slice(-1, None))[-1])

    def _logits(self, row: int, tokens: list[int]) -> torch.Tensor:
        """(R, V) the model's own logits of the tokens that decide, at the depths where they are to leave."""
        hidden_LRD = self._adapter.capture(torch.tensor([tokens], device=self._model.device), slice(-_STEPS - 1, -1))
        script = _Script(self._stack.num_blocks)
        depths = torch.tensor([script.depth(row, step) for step in range(_STEPS)], device=hidden_LRD.device)
        return self._adapter.readout(hidden_LRD[depths, torch.arange(_STEPS, device=depths.device)])

    def _batch(self, abilities: Abilities, num_rows: int) -> Batch:
        return Batch(
            self._stack,
            abilities,
            [tokens[:-_STEPS] for tokens in self._rows[:num_rows]],
            room=_STEPS,
            prober=_Script(self._stack.num_blocks),
            reader=self._reader,
            state="deferred",
            row_mode="regroup",
            most_waiting=_STEPS,
            device=self._model.device,
        )

    def layers(self) -> Abilities:
        """Where each block keeps its state, and nothing more that could be relied on."""
        num_blocks = self._stack.num_blocks
        plain = Abilities(layers=((),) * num_blocks, chunks=(False,) * num_blocks, writes=(StateWrite(),) * num_blocks)
        batch = self._batch(plain, 1)
        batch.step((0,), 0, batch.width, looks=False)
        states = [[state_of(layer) for layer in batch.cache.layers]]

        def passing(block: int, train: Train) -> None:
            if block > 0:
                states.append([state_of(layer) for layer in batch.cache.layers])

        batch.ids[0, batch.width] = self._rows[0][-_STEPS]
        batch.on_pass = passing
        batch.step((0,), batch.width, batch.width + 1, looks=False)
        states.append([state_of(layer) for layer in batch.cache.layers])
        changed = (
            tuple(i for i, (old, new) in enumerate(zip(before, after, strict=True)) if not same_state(old, new))
            for before, after in pairwise(states)
        )
        return replace(plain, layers=tuple(changed))

    def error(self, abilities: Abilities, *, rows: int) -> float:
        """How far the logits of tokens that leave early are from the model's own."""
        batch = self._batch(abilities, rows)
        together = tuple(range(rows))
        start, stop = 0, batch.width
        squares = []
        for step in range(_STEPS):
            batch.prober.start(together, [step] * rows)
            logits, _ = batch.step(together, start, stop, finish=step == 0)
            for row in together:
                squares.append((logits[row, -1].double() - self._expected[row][step].double()).square().mean().item())
                batch.ids[row, stop] = self._rows[row][step - _STEPS]
            start, stop = stop, stop + 1
        error = math.sqrt(sum(squares) / len(squares))
        return error if math.isfinite(error) else math.inf

    def holds(self, abilities: Abilities, *, rows: int = 1) -> bool:
        """Whether logits are the model's own within its rounding error; what raises an error does not hold."""
        try:
            return self.error(abilities, rows=rows) <= self.tolerance
        except LOAD_ERRORS:
            return False

    def chunks(self, abilities: Abilities) -> tuple[bool, ...]:
        """(L) which blocks may be given all waiting tokens at once."""
        everywhere = (True,) * len(self._kinds)
        if self.holds(replace(abilities, chunks=everywhere)):
            return everywhere
        good = set()
        for kind in dict.fromkeys(self._kinds):
            if self.holds(replace(abilities, chunks=tuple(other == kind for other in self._kinds))):
                good.add(kind)
        chunks = tuple(kind in good for kind in self._kinds)
        return chunks if self.holds(replace(abilities, chunks=chunks)) else abilities.chunks

    def rolls_back(self, abilities: Abilities) -> bool:
        """Whether blocks that are put back have the state that they had."""
        try:
            batch = self._batch(abilities, 1)
            batch.prober.start((0,), [2])
            batch.step((0,), 0, batch.width, looks=False)
            marks = [batch.states.mark(block) for block in range(self._stack.num_blocks)]
            stop = batch.width
            for wrong in (True, False):
                for step in range(2):
                    batch.ids[0, stop + step] = self._rows[0][step if wrong else step - _STEPS]
                    logits, _ = batch.step((0,), stop + step, stop + step + 1, looks=False)
                if wrong:
                    for block, mark in enumerate(marks):
                        batch.states.restore(block, mark)
            error = (logits[0, -1:].double() - self._full.double()).square().mean().sqrt().item()
            return bool(error <= self.tolerance)
        except LOAD_ERRORS:
            return False

    def writes(self, abilities: Abilities) -> tuple[StateWrite, ...]:
        """(L) the least of each block that writes the state of a token."""
        batch = self._batch(abilities, 1)
        batch.step((0,), 0, batch.width, looks=False)
        found: list[StateWrite] = []

        def passing(block: int, train: Train) -> None:
            calls = batch.calls(train.rows, train.start, train.stop)
            found.append(self._write(batch, block, calls, train.hidden) if abilities.rolls_back else StateWrite())

        batch.ids[0, batch.width] = self._rows[0][-_STEPS]
        batch.on_pass = passing
        batch.step((0,), batch.width, batch.width + 1, looks=False)
        return tuple(found)

    def _maps_before(
        self, end: StateWrite, batch: Batch, block: int, calls: Calls, hidden: torch.Tensor
    ) -> list[torch.nn.Module]:
        """Linear maps of a block that are reached before its last write."""
        reached: dict[torch.nn.Module, None] = {}
        start = batch.states.mark(block)
        with ExitStack() as stack:
            for module in self._stack.blocks[block].modules():
                if type(module) is torch.nn.Linear:
                    hook = module.register_forward_pre_hook(lambda module, _: reached.update({module: None}))
                    stack.callback(hook.remove)
            end.write(self._stack, batch.cache, block, calls, hidden)
        batch.states.restore(block, start)
        return list(reached)

    def _write(self, batch: Batch, block: int, calls: Calls, hidden: torch.Tensor) -> StateWrite:
        """Try the shortcuts of one block on one token; its state is afterwards what it was."""
        states, cache = batch.states, batch.cache
        before = cache.num_writes
        start = states.mark(block)
        self._stack.block(block, calls, hidden)
        num_writes = cache.num_writes - before
        wanted = states.mark(block)

        def gives_the_same(how: StateWrite) -> bool:
            states.restore(block, start)
            start[:] = states.mark(block)
            how.write(self._stack, cache, block, calls, hidden)
            return states.same(block, wanted)

        best = StateWrite()
        if num_writes and gives_the_same(StateWrite(num_writes=num_writes)):
            best = StateWrite(num_writes=num_writes)
            idle = tuple(
                module
                for module in self._maps_before(best, batch, block, calls, hidden)
                if gives_the_same(StateWrite(num_writes=num_writes, idle=(module,)))
            )
            together = StateWrite(num_writes=num_writes, idle=idle)
            if gives_the_same(together):
                best = together
        states.restore(block, start)
        return best
