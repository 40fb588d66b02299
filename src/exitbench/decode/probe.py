"""A policy's looks at tokens on their way through the blocks.

The same policy object as in replay is shown the same signals, computed by the same functions, as far as they are known
by then. What a signal needs is read out for the rows that have not left yet; a readout of the whole vocabulary at the
exit is kept, for it is that of the answer too. Policies that look at no token say beforehand where it leaves.

Shapes: B rows of the batch, R of them at a probe, K probe depths, D hidden size, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from exitbench.errors import DecodeError
from exitbench.lens import Translators
from exitbench.lens.translators import translate
from exitbench.models.load import ProvedModel
from exitbench.policies.policy import ExitPolicy, Seen
from exitbench.signals.registry import SIGNALS
from exitbench.signals.view import DepthView

__all__ = ["Looks", "Prober", "Reader", "require_usable"]


class Looks(Protocol):
    """Something that says which tokens leave."""

    def start(self, rows: Sequence[int], positions: Sequence[int]) -> None:
        """New tokens set out, of some rows at these positions of their answers."""

    def looks_at(self, depth: int) -> bool:
        """Whether tokens are looked at there."""

    def leaves(
        self, depth: int, rows: Sequence[int], hidden_RD: torch.Tensor, previous_RD: torch.Tensor
    ) -> tuple[NDArray[np.bool_], torch.Tensor | None]:
        """(R,) whether each row's token leaves at a depth, and (R, V') what the head returned if it was asked.

        Args:
            depth: one that `looks_at`.
            rows: of the batch.
            hidden_RD: their hidden states there.
            previous_RD: and one block earlier.
        """


def require_usable(policy: ExitPolicy, loaded: ProvedModel) -> None:
    """Refuse a policy that cannot decide while a model runs, or that is not ready.

    Raises:
        DecodeError: says why.
    """
    ahead = [name for name in policy.signals if not SIGNALS.get(name).known_while_running]
    if ahead:
        raise DecodeError(
            f"policy {policy.name!r} looks at {', '.join(ahead)}, which is not known before the full model has run; it "
            "can be replayed, not decoded"
        )
    if policy.learns:
        raise DecodeError(
            f"policy {policy.name!r} is to be fitted first, or its probe depths learnt; make a file of it with "
            "'exitbench replay TRACE --save-policies DIR', and give the file"
        )
    if policy.fitted_on is not None and policy.fitted_on != loaded.weights_sha256:
        raise DecodeError(
            f"policy {policy.name!r} was fitted on a model with weights {policy.fitted_on[:12]}, this is "
            f"{loaded.name}; fit it on a trace of this model"
        )
    policy.checked(loaded.adapter.num_blocks)


class Reader:
    """Readout of hidden states at some depth, by the model's own modules or its own code.

    Args:
        loaded: the model.
        translators: of a tuned lens; None for the logit lens.
    """

    def __init__(self, loaded: ProvedModel, translators: Translators | None) -> None:
        self._adapter, self._readout = loaded.adapter, loaded.readout
        self._head: Any = loaded.model.get_submodule(loaded.adapter.paths.head)
        self._translators = translators
        self._head_is_all = loaded.readout.is_split and loaded.readout.head is not None

    def translated(self, depth: int, hidden_RD: torch.Tensor) -> torch.Tensor:
        """(R, D) what is read out in place of hidden states after `depth` blocks."""
        if self._translators is None or depth == self._adapter.num_blocks:
            return hidden_RD
        return translate(hidden_RD, self._translators.weights[depth], self._translators.biases[depth])

    def logits(self, depth: int, hidden_RD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(R, V) logits, and (R, V') what the head itself returned."""
        read_RD = self.translated(depth, hidden_RD)
        if self._head_is_all:
            raw = self._head(self._readout.features(read_RD))
            return raw[:, : self._readout.vocab_size], raw
        raws: list[torch.Tensor] = []
        head = self._head.forward

        def kept(features: torch.Tensor) -> torch.Tensor:
            raws.append(head(features))
            return raws[0]

        return self._adapter.readout(read_RD, head=kept), raws[0].flatten(0, 1)


class Prober:
    """One policy at work on a batch.

    Args:
        loaded: the model.
        policy: one that `require_usable` lets pass.
        reader: of the model.
        num_rows: B.
        answer_limit: longest answer, in tokens.
    """

    def __init__(
        self, loaded: ProvedModel, policy: ExitPolicy, reader: Reader, *, num_rows: int, answer_limit: int
    ) -> None:
        self._policy, self._reader = policy, reader
        self._num_blocks = loaded.adapter.num_blocks
        self._answer_limit = answer_limit
        depths = policy.schedule.at(self._num_blocks)
        self._depths = depths if policy.threshold is not None else depths[:0]
        self._signals = {name: SIGNALS.get(name) for name in policy.signals}
        self._reads_out = any(signal.needs_readout for signal in self._signals.values())
        self._reads_out_previous = any(signal.needs_previous for signal in self._signals.values())
        self._seen = {
            name: np.zeros((num_rows, len(self._depths)), signal.dtype) for name, signal in self._signals.items()
        }
        self._positions = np.zeros(num_rows, dtype=np.int64)
        self._planned: NDArray[np.int64] | None = None
        self._looked_at = frozenset(self._depths.tolist())

    def start(self, rows: Sequence[int], positions: Sequence[int]) -> None:
        """As `Looks` says."""
        self._positions[list(rows)] = positions
        if not self._signals:
            self._planned = self._policy.exits(self._seen_by(len(self._depths)))
            self._looked_at = frozenset(self._planned.tolist())

    def looks_at(self, depth: int) -> bool:
        """As `Looks` says."""
        return depth in self._looked_at

    def leaves(
        self, depth: int, rows: Sequence[int], hidden_RD: torch.Tensor, previous_RD: torch.Tensor
    ) -> tuple[NDArray[np.bool_], torch.Tensor | None]:
        """As `Looks` says."""
        index = list(rows)
        if self._planned is not None:
            return self._planned[index] == depth, None
        probe = int(np.searchsorted(self._depths, depth))
        logits = raw = previous = None
        if self._reads_out:
            logits, raw = self._reader.logits(depth, hidden_RD)
            logits = logits[None]
        target = torch.zeros(len(index), dtype=torch.long, device=hidden_RD.device)
        if self._reads_out_previous:
            before = self._reader.logits(depth - 1, previous_RD)[0]
            previous = DepthView(before[None], previous_RD[None], target)
        view = DepthView(logits, hidden_RD[None], target, previous_hidden=previous_RD[None], previous=previous)
        for name, signal in self._signals.items():
            self._seen[name][index, probe] = signal.compute(view)[0].cpu().numpy()
        return self._policy.leaves(self._seen_by(probe + 1).rows(np.asarray(index))), raw

    def signals_of(self, row: int) -> dict[str, NDArray[np.generic]]:
        """Name -> (K,) what was last seen of a row; behind its exit, of an earlier token."""
        return {name: values[row].copy() for name, values in self._seen.items()}

    def _seen_by(self, count: int) -> Seen:
        """The whole batch as the policy sees it after so many probes."""
        return Seen(
            depths=self._depths[:count],
            num_blocks=self._num_blocks,
            answer_position=self._positions,
            answer_limit=self._answer_limit,
            signals={name: values[:, :count] for name, values in self._seen.items()},
        )
