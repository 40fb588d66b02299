"""From token ids to rows: one pass of the model over a stretch, then its signals or its decisions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from exitbench.lens import Translators
from exitbench.models.load import ProvedModel
from exitbench.signals import compute_signals
from exitbench.signals.compute import DEFAULT_MEMORY
from exitbench.signals.lazy import LazyDecisions
from exitbench.signals.registry import recorded_names
from exitbench.trace.budget import Budget
from exitbench.trace.decision import decision_depths
from exitbench.trace.parts import Rows

__all__ = ["Recorder", "SampleFailedError", "Stretch"]

Result = TypeVar("Result")


class SampleFailedError(Exception):
    """A sample that gives no rows; recorded, and the run goes on."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """One sequence to pass through the model and the tokens of it that count."""

    ids: list[int]
    first_row: int
    """Position of the first counted token; counted are all from here to the last but one."""
    turn: int
    sample: int
    """Index of its sample in the trace."""
    category: str
    """Of the sample."""


class Recorder:
    """Makes the rows of samples, within a budget of memory.

    Half of the budget is for hidden states: where those of a stretch are more, it is passed through the model once for
    each part of its rows. The other half is for logits.

    Args:
        loaded: a validated model.
        translators: of a tuned lens; None for the logit lens.
        fast: record decisions alone.
        also: names of optional signals to record too.
        memory: bytes to hold at once beside the weights and one pass.
        say: told when there is less.

    Raises:
        UnknownNameError: there is no such signal.
    """

    def __init__(
        self,
        loaded: ProvedModel,
        translators: Translators | None = None,
        *,
        fast: bool,
        also: Sequence[str] = (),
        memory: int,
        say: Callable[[str], None],
    ) -> None:
        self._loaded = loaded
        self._names = recorded_names(also)
        self._translators = translators
        on_cpu = loaded.model.device.type == "cpu"
        self._for_hidden = Budget(memory // 2, "hidden states", say)
        self._for_logits = Budget(min(memory // 2, DEFAULT_MEMORY) if on_cpu else memory // 2, "logits", say)
        self._lazy = LazyDecisions(loaded.readout) if fast else None

    def rows(self, stretches: Sequence[Stretch]) -> Rows:
        """All rows of one sample, turn after turn.

        Raises:
            SampleFailedError: logits are not finite.
            OutOfMemoryError: not even one row fits.
        """
        return Rows.joined([part for stretch in stretches for part in self._parts(stretch)])

    def _parts(self, stretch: Stretch) -> Iterator[Rows]:
        """The rows of one stretch, as many together as have hidden states that fit."""
        start, end = stretch.first_row, len(stretch.ids) - 1
        while start < end:
            hidden_LRD = self._hidden(stretch, start, end)
            rows = slice(start, start + hidden_LRD.shape[1])
            yield self._part(stretch, rows, hidden_LRD)
            start = rows.stop

    def _hidden(self, stretch: Stretch, start: int, end: int) -> torch.Tensor:
        """(L + 1, R, D) hidden states of the rows from `start` on, up to `end` if they fit."""
        adapter = self._loaded.adapter
        ids = torch.tensor([stretch.ids], device=self._loaded.model.device)
        probe_KTD = self._loaded.readout.probe_KTD
        # Twice, for they are gathered one depth after the other and then put together, and later translated.
        of_row = 2 * (adapter.num_blocks + 1) * probe_KTD.shape[-1] * probe_KTD.element_size()

        def capture(memory: int) -> torch.Tensor:
            return adapter.capture(ids, slice(start, min(end, start + max(1, memory // of_row))))

        return self._for_hidden.spend(capture, wanted=(end - start) * of_row, least=of_row)

    def _part(self, stretch: Stretch, rows: slice, hidden_LRD: torch.Tensor) -> Rows:
        ids = torch.tensor(stretch.ids, device=hidden_LRD.device)
        target = ids[rows.start + 1 : rows.stop + 1]
        read_LRD = hidden_LRD if self._translators is None else self._translators(hidden_LRD)
        signals: dict[str, NDArray[np.generic]] = {}
        if self._lazy is not None:
            decided = self._with_logits(partial(self._lazy, read_LRD))
            if decided.not_finite:
                raise SampleFailedError(
                    f"logits are not finite, turn {stretch.turn + 1}; trace without --fast to see where"
                )
            final_id, depth = decided.final_id, decided.decision_depth
        else:
            signals = self._with_logits(
                partial(compute_signals, hidden_LRD, target, self._loaded.readout, names=self._names, read_LRD=read_LRD)
            )
            _refuse_not_finite(signals, rows.start, stretch.turn)
            top1_id = signals["top1_id"].astype(np.int32)
            final_id, depth = top1_id[:, -1], decision_depths(top1_id)
        position = np.arange(rows.start, rows.stop, dtype=np.int32)
        return Rows(
            turn=np.full(len(position), stretch.turn, np.int16),
            position=position,
            input_id=ids[rows].cpu().numpy().astype(np.int32),
            target_id=target.cpu().numpy().astype(np.int32),
            final_id=final_id,
            decision_depth=depth,
            signals=signals,
        )

    def _with_logits(self, job: Callable[..., Result]) -> Result:
        """Call `job` with as much memory for logits as there is, down to one row of them."""
        least = self._loaded.readout.vocab_size * self._loaded.readout.dtype.itemsize
        return self._for_logits.spend(lambda memory: job(memory=memory), wanted=self._for_logits.num_bytes, least=least)


def _refuse_not_finite(signals: dict[str, NDArray[np.generic]], first_position: int, turn: int) -> None:
    finite = np.isfinite(signals["top1_prob"]) & np.isfinite(signals["entropy"])
    if not finite.all():
        row, depth = np.argwhere(~finite)[0]
        raise SampleFailedError(
            f"logits are not finite at depth {depth}, position {first_position + row}, turn {turn + 1} "
            f"({(~finite).any(-1).sum()} of {len(finite)} tokens affected)"
        )
