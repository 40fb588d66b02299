"""The exit loop: greedy answers by a policy, with blocks really skipped.

Prompts run through all blocks, for all of their state is needed; the policy still says where their last token, which
gives the first token of the answer, would have left. Every later token goes as deep as the policy lets it. What becomes
of the blocks behind is the state strategy: "deferred" and "copy" (see `batch`), "lossless" (see `lossless`).

The baseline is this same loop with a policy that never leaves.

Shapes: B prompts, V vocabulary.
"""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, get_args

import torch

from exitbench.config import RowMode, StateMode
from exitbench.decode.abilities import Abilities
from exitbench.decode.batch import Batch
from exitbench.decode.engine import Decoded
from exitbench.decode.lossless import LosslessRun
from exitbench.decode.probe import Prober, Reader, require_usable
from exitbench.decode.run import OnToken, Run
from exitbench.decode.stack import Stack
from exitbench.decode.trial import find_abilities
from exitbench.errors import DecodeError
from exitbench.lens import Translators
from exitbench.models.load import ProvedModel
from exitbench.policies.policy import ExitPolicy
from exitbench.trace.generate import end_token_ids

__all__ = ["ExitDecoder", "Followed"]


@dataclass(frozen=True, kw_only=True)
class Followed:
    """What a decoder would have said on a given answer."""

    ids: tuple[int, ...]
    """Its choice in place of each token of the answer."""
    depths: tuple[int, ...]
    """Blocks that had run."""
    logprobs: tuple[float, ...]
    """Log-probability of the given tokens at those depths, in nats."""
    signals: tuple[dict[str, Any], ...]
    """What the policy saw: name -> (K,) by probe depth; behind the exit, of an earlier token."""


class ExitDecoder:
    """Greedy decoding with early exit; an `Engine`.

    Args:
        loaded: the model.
        policy: when tokens leave; ready for use.
        state: how skipped blocks get their state.
        rows: what rows of a batch do that have left: make room for the others, or go along.
        draft: most tokens drafted before they are checked, with the state "lossless".
        most_waiting: most tokens of a row that wait, with the state "deferred".
        translators: of a tuned lens; None for the model's own readout.
        abilities: of the model, if they are known from another decoder.

    Raises:
        DecodeError: the model, or the policy, cannot be decoded so; says why.
    """

    name = "exitbench"
    baseline = "exitbench"

    def __init__(
        self,
        loaded: ProvedModel,
        policy: ExitPolicy,
        *,
        state: StateMode = "deferred",
        rows: RowMode = "regroup",
        draft: int = 4,
        most_waiting: int = 8,
        translators: Translators | None = None,
        abilities: Abilities | None = None,
    ) -> None:
        require_usable(policy, loaded)
        for option, named, known in (("state", state, get_args(StateMode)), ("rows", rows, get_args(RowMode))):
            if named not in known:
                raise DecodeError(f"{option} is {named!r}, expected {', '.join(known)}")
        for option, value in (("draft", draft), ("most_waiting", most_waiting)):
            if value < 1:
                raise DecodeError(f"{option} is {value}, expected at least 1")
        self.loaded, self.policy, self.state, self.rows = loaded, policy, state, rows
        self.draft, self._most_waiting = draft, most_waiting
        self._stack = Stack(loaded.adapter)
        self._reader = Reader(loaded, translators)
        embedding: Any = loaded.model.get_input_embeddings()
        self._num_ids = int(embedding.weight.shape[0])
        self.abilities = abilities or find_abilities(loaded, self._stack)
        if state == "lossless" and not self.abilities.rolls_back:
            raise DecodeError(
                f"state 'lossless' is not possible with {type(loaded.model).__name__}: its blocks cannot be put back "
                "to an earlier state; use 'deferred' or 'copy'"
            )

    @property
    def setting(self) -> str:
        """Policy, its threshold and probes, state and rows."""
        threshold = "never" if self.policy.threshold is None else f"{self.policy.threshold:.4g}"
        more = f", draft {self.draft}" if self.state == "lossless" else ""
        return f"{self.policy.name} {threshold}, probes {self.policy.schedule.text}, {self.state}{more}, {self.rows}"

    @torch.inference_mode()
    def decode(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        ends: Collection[int] | None = None,
        on_token: OnToken = lambda row, token, depth: None,
    ) -> Decoded:
        """Greedy answers to a batch of prompts.

        Args:
            prompts: token ids, of any lengths.
            max_new_tokens: longest answer.
            ends: tokens that end an answer; None for the model's own, empty to go on behind them, for timing.
            on_token: told of each new token.

        Raises:
            DecodeError: a prompt that is empty or too long.
        """
        self.require_room(prompts, max_new_tokens)
        started = time.perf_counter()
        ends = end_token_ids(self.loaded.model) if ends is None else ends
        answers = []
        counts: dict[str, int] = {}
        prefill_s = 0.0
        for first, part in self._parts(prompts):

            def told(row: int, token: int, depth: int, first: int = first) -> None:
                on_token(first + row, token, depth)

            with self._batch(part, self._prober(len(part), max_new_tokens), max_new_tokens) as batch:
                limits: dict[str, Any] = {"limit": max_new_tokens, "ends": frozenset(ends), "on_token": told}
                if self.state == "lossless":
                    run: Run = LosslessRun(batch, num_blocks=self._stack.num_blocks, draft=self.draft, **limits)
                else:
                    run = Run(batch, **limits)
                answers += run.to_the_end()
            prefill_s += run.prefill_s
            done = asdict(batch.counts)
            counts = {name: counts.get(name, 0) + number for name, number in done.items()}
        return Decoded(
            answers=tuple(answers), prefill_s=prefill_s, total_s=time.perf_counter() - started, counts=counts
        )

    @torch.inference_mode()
    def follow(self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> list[Followed]:
        """Let given answers be decoded: each token is fed whatever was chosen, and the policy decides on it as ever.

        With the state "lossless" nothing is drafted, and all tokens run to the end.

        Args:
            prompts: token ids.
            answers: of each prompt; not empty.

        Raises:
            DecodeError: a prompt or an answer that is empty or too long.
        """
        followed = []
        for prompt, answer in zip(prompts, answers, strict=True):
            self.require_room([prompt], len(answer))
            looks = self.state != "lossless"
            ids, depths, logprobs, signals = [], [], [], []
            prober = self._prober(1, len(answer))
            with self._batch([prompt], prober, len(answer)) as batch:
                start, stop = 0, batch.width
                for position, token in enumerate(answer):
                    prober.start((0,), [position])
                    logits, (depth,) = batch.step((0,), start, stop, looks=looks, finish=position == 0)
                    ids.append(int(logits[0, -1].argmax()))
                    depths.append(depth)
                    logprobs.append(float(logits[0, -1].float().log_softmax(-1)[token]))
                    signals.append(prober.signals_of(0))
                    if position + 1 < len(answer):
                        batch.ids[0, stop] = token
                    start, stop = stop, stop + 1
            followed.append(
                Followed(ids=tuple(ids), depths=tuple(depths), logprobs=tuple(logprobs), signals=tuple(signals))
            )
        return followed

    def _parts(self, prompts: Sequence[Sequence[int]]) -> Iterator[tuple[int, Sequence[Sequence[int]]]]:
        """Prompts that are decoded together, and the number of the first of each part."""
        widths = {len(prompt) for prompt in prompts}
        together = self.abilities.separates_rows and (self.loaded.can_pad or len(widths) == 1)
        if together and self.state != "lossless":
            yield 0, prompts
        else:
            yield from ((number, [prompt]) for number, prompt in enumerate(prompts))

    def _prober(self, num_rows: int, limit: int) -> Prober:
        return Prober(self.loaded, self.policy, self._reader, num_rows=num_rows, answer_limit=limit)

    @contextmanager
    def _batch(self, prompts: Sequence[Sequence[int]], prober: Prober, room: int) -> Iterator[Batch]:
        with self._stack.installed():
            yield Batch(
                self._stack,
                self.abilities,
                prompts,
                room=room,
                prober=prober,
                reader=self._reader,
                state="copy" if self.state == "copy" else "deferred",
                row_mode=self.rows,
                # Drafts wait until they are checked.
                most_waiting=self.draft + 1 if self.state == "lossless" else self._most_waiting,
                device=self.loaded.model.device,
            )

    def require_room(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
        """Refuse what cannot be decoded.

        Raises:
            DecodeError: no prompts, or one that is empty, too long for the model with its answer, or of unknown tokens.
        """
        if max_new_tokens < 1:
            raise DecodeError(f"max_new_tokens is {max_new_tokens}, expected at least 1")
        if not prompts:
            raise DecodeError("there are no prompts, expected at least 1")
        for number, prompt in enumerate(prompts, start=1):
            if len(prompt) == 0:
                raise DecodeError(f"prompt {number} has no tokens, expected at least 1")
            unknown = [token for token in prompt if not 0 <= token < self._num_ids]
            if unknown:
                raise DecodeError(
                    f"prompt {number} has the token {unknown[0]}, the model knows 0 to {self._num_ids - 1}"
                )
            if not self.loaded.has_room_for(len(prompt) + max_new_tokens):
                raise DecodeError(
                    f"prompt {number} has {len(prompt)} tokens and the answer up to {max_new_tokens}, the model knows "
                    f"{self.loaded.context_length} positions; shorten the prompt or lower --max-new-tokens"
                )
