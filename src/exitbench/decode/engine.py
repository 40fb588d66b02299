"""What an engine is: one call from prompts to answers, with the depth of every token and the time it took.

exitbench's own loop is one engine among others, so that all are timed and judged by the same code. A third-party
package registers one under the entry point group `exitbench.engines`; those that come with exitbench are in `engines`.

Non-goals: streaming, sampling. Answers are greedy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from exitbench.models.load import LoadedModel
from exitbench.registry import Registry

__all__ = ["ENGINES", "Answer", "Decoded", "Engine", "EngineMaker"]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One greedy answer."""

    ids: tuple[int, ...]
    """New tokens, up to and including the first end token."""
    depths: tuple[int, ...] | None = None
    """Blocks that had run when each of them was chosen; None where the engine does not say."""
    failure: str | None = None
    """Why it ends before its end; None where it does not."""


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """Answers to one batch of prompts."""

    answers: tuple[Answer, ...]
    """One a prompt, in order."""
    prefill_s: float | None
    """Wall-clock seconds until the first new token of every prompt was known; None where the engine does not say."""
    total_s: float
    """Wall-clock seconds of the whole call, prefill included."""
    counts: Mapping[str, int]
    """What the engine counted, by name: probes, blocks run, drafts accepted, .."""

    @property
    def num_tokens(self) -> int:
        """New tokens of all answers, counted from their ids."""
        return sum(len(answer.ids) for answer in self.answers)


class Engine(Protocol):
    """A way to decode with one model and one setting."""

    @property
    def name(self) -> str:
        """Of the engine."""
        ...

    @property
    def setting(self) -> str:
        """Everything that was chosen, in one short line; "" for none."""
        ...

    @property
    def baseline(self) -> str:
        """Greedy decoding of the same runtime, to which its time is put in relation: "exitbench", "transformers", .."""
        ...

    def decode(self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int) -> Decoded:
        """Greedy answers to a batch of prompts.

        Args:
            prompts: token ids, of any lengths.
            max_new_tokens: longest answer.

        Raises:
            ExitbenchError: the model or the batch is not one that the engine can decode; says what and why.
        """
        ...


EngineMaker = Callable[[LoadedModel, Mapping[str, Any]], Engine]
"""From a model and settings (strings and numbers, as typed) to an engine; raises `ExitbenchError` for a bad setting."""

ENGINES: Registry[EngineMaker] = Registry("engine")
"""Makers of engines by name."""
