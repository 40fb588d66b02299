"""Lossless early exit: tokens that leave early are drafts, and the full model checks them in one go.

A round drafts until a token does not leave, or as many tokens as are allowed have left. The states of drafts wait in
front of the blocks that they skipped, as in deferred decoding; the token that runs to the end takes them along, so that
the last blocks see all of them as one chunk, and the readout of that chunk is the full model's word on every draft.
Drafts are kept up to the first that it would not have chosen, in whose place comes its own choice; the blocks are put
back to that point. With a policy of one fixed depth this is the self-speculative decoding of LayerSkip (arXiv
2404.16710).

The answer is that of greedy decoding; where the full model has two tokens within rounding of one another, the shape of
a chunk may decide between them.

Non-goals: batches (a round has its own length in every row), sampling.

Shapes: n tokens of a round, V vocabulary.
"""

from dataclasses import replace
from typing import Any

from exitbench.decode.batch import Train
from exitbench.decode.cache import LayerState
from exitbench.decode.run import Run

__all__ = ["LosslessRun"]


class LosslessRun(Run):
    """The run of one row.

    Args:
        num_blocks: L.
        draft: most tokens drafted in a round.
    """

    def __init__(self, *args: Any, num_blocks: int, draft: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert len(self.rows) == 1
        self._num_blocks, self._draft = num_blocks, draft
        self._passes: list[list[tuple[Train, list[LayerState]]]] = [[] for _ in range(num_blocks)]
        self.batch.on_pass = self._note

    def begin(self) -> None:
        """Run the prompt; its last token is the full model's."""
        logits, depths = self.batch.step((0,), 0, self.batch.width, looks=False)
        self._choose((0,), logits[:, -1], depths)
        self._forget()

    def advance(self) -> None:
        """One round: draft, check, put back."""
        batch, known = self.batch, len(self.rows[0].ids)
        first = slot = batch.width + known - 1
        most = min(self._draft, self.limit - known - 1)
        depths: list[int] = []
        ended = False
        while True:
            looks = len(depths) < most and not ended
            batch.prober.start((0,), [known + len(depths)])
            logits, (depth,) = batch.step((0,), slot, slot + 1, looks=looks, checks=True)
            if depth == self._num_blocks:
                break
            drafted = int(logits[0, -1].argmax())
            batch.ids[0, slot + 1] = drafted
            ended = drafted in self.ends
            depths.append(depth)
            slot += 1
        checked = batch.checked[0]
        drafts = batch.ids[0, first + 1 : slot + 1].tolist()
        choices = checked.argmax(-1).tolist()
        accepted = next((i for i, (a, b) in enumerate(zip(drafts, choices, strict=False)) if a != b), len(drafts))
        batch.counts.drafts += len(drafts)
        batch.counts.accepted += accepted
        batch.counts.rounds += 1
        for place in range(accepted + 1):
            if not self.rows[0].open:
                break
            self._choose((0,), checked[place : place + 1], [(*depths, self._num_blocks)[place]])
        if accepted < len(drafts):
            self._put_back(first + accepted + 1)
        self._forget()

    def _forget(self) -> None:
        for passes in self._passes:
            passes.clear()

    def _note(self, block: int, train: Train) -> None:
        if not self.batch.states.is_croppable(block):
            self._passes[block].append((replace(train), self.batch.states.mark(block)))

    def _put_back(self, slot: int) -> None:
        """Let no block have seen the slots from this one on."""
        states = self.batch.states
        for block, passes in enumerate(self._passes):
            if states.is_croppable(block):
                states.crop(block, slot)
                continue
            train, mark = next((train, mark) for train, mark in passes if train.stop > slot)
            states.restore(block, mark)
            if train.start < slot:
                self.batch.pass_again(block, train, slot)
