"""Names of checkpoints: what they say of training, and which of many to take.

A pattern is written for `str.format`, e.g. "step{step}-tokens{tokens}B", and read backwards. It fits a name only if it
makes that very name again, so "step{step}" does not fit "step007". Imports neither torch nor the hub.

Non-goals: where checkpoints are, and whether they can be loaded.
"""

import math
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from exitbench.errors import ModelError

__all__ = ["Checkpoint", "NamePattern", "in_training_order", "log_spaced"]

_UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_COUNTED = ("step", "tokens", "checkpoint")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One state of a model in training."""

    source: str
    """What `load` takes: a hub id, or the folder of this checkpoint."""
    revision: str | None
    """Of the hub; None for a folder."""
    name: str
    """The revision, or the name of the folder."""
    step: int | None
    """Number in the name: of training steps, or of checkpoints where the names count those; None if it has none."""
    tokens: int | None
    """Tokens seen in training, rounded where the name rounds them; None if unknown."""
    final: str | None = None
    """Hub id of the listed model that this training ended in; None for a folder or if no listed one did."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """What a folder's `checkpoint.json` says of it beyond that."""


@dataclass(frozen=True)
class NamePattern:
    """A pattern of names, with fields `step`, `tokens` and `checkpoint`; any other field stands for some number.

    Attributes:
        text: for `str.format`. A K, M, B or T right after `{tokens}` is the unit.
        tokens_per_step: what one step adds, or one checkpoint where those are counted; None if unknown.

    Raises:
        ModelError: it is no pattern, or holds none of the three fields.
    """

    text: str
    tokens_per_step: int | None = None

    def __post_init__(self) -> None:
        try:
            pieces = list(string.Formatter().parse(self.text))
            self.text.format(**{field: 1 for _, field, _, _ in pieces if field})
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"pattern {self.text!r} is malformed: {error}; expected e.g. 'step{{step}}'") from error
        fields = [field for _, field, _, _ in pieces if field]
        if not set(fields) & set(_COUNTED) or len(set(fields)) < len(fields):
            raise ModelError(
                f"pattern {self.text!r} has the fields {', '.join(fields) or 'none'}; expected one of "
                f"{', '.join(_COUNTED)}, each at most once, e.g. 'step{{step}}'"
            )

    def read(self, name: str) -> tuple[int | None, int | None] | None:
        """Step and tokens that `name` tells, as in `Checkpoint`; None if it does not fit the pattern."""
        pieces = list(string.Formatter().parse(self.text))
        expression = "".join(
            re.escape(text) + (f"(?P<{field}>[0-9]+)" if field else "") for text, field, _, _ in pieces
        )
        match = re.fullmatch(expression, name)
        if match is None:
            return None
        numbers = {field: int(digits) for field, digits in match.groupdict().items()}
        if self.text.format(**numbers) != name:
            return None
        step = numbers.get("step", numbers.get("checkpoint"))
        if step is not None and self.tokens_per_step is not None:
            return step, step * self.tokens_per_step
        return step, numbers["tokens"] * self._unit() if "tokens" in numbers else None

    def _unit(self) -> int:
        after = self.text.partition("{tokens")[2].partition("}")[2]
        unit = re.match(r"([KMBT])(?![A-Za-z])", after)
        return _UNITS[unit[1]] if unit else 1


def _positions(checkpoints: Sequence[Checkpoint]) -> list[int] | None:
    """Where each is in training: tokens if all have them, else steps; None if neither."""
    for positions in ([c.tokens for c in checkpoints], [c.step for c in checkpoints]):
        known = [position for position in positions if position is not None]
        if len(known) == len(positions):
            return known
    return None


def in_training_order(checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    """The checkpoints from the first to the last; ties by step, then by name.

    Raises:
        ModelError: some lack tokens and some lack steps, so that nothing orders them.
    """
    positions = _positions(checkpoints)
    if positions is None:
        lacking = next(c.name for c in checkpoints if c.tokens is None)
        raise ModelError(f"checkpoint {lacking} tells neither step nor tokens of all; list the revisions by name")
    order = sorted(range(len(checkpoints)), key=lambda i: (positions[i], checkpoints[i].step or 0, checkpoints[i].name))
    return [checkpoints[i] for i in order]


def log_spaced(checkpoints: Sequence[Checkpoint], count: int) -> list[Checkpoint]:
    """Choose `count` checkpoints evenly in the logarithm of tokens seen, or of steps where tokens are unknown.

    The first and the last are always among them, and step 0 does not count as a place on the logarithmic axis. Of the
    others the one nearest to each place is taken that is later than those before and leaves enough for those after.

    Args:
        checkpoints: in training order.
        count: at least 2; with no more checkpoints than that, all are taken.
    """
    if len(checkpoints) <= count:
        return list(checkpoints)
    positions = _positions(checkpoints)
    assert positions is not None, "checkpoints in training order have positions"
    logs = [math.log(position) if position else -math.inf for position in positions]
    begin = next((log for log in logs if log > -math.inf), 0.0)
    end = max(logs[-1], begin)
    # Step 0, where there is one, is taken beside the places: the first of them is then a choice of its own.
    places = np.linspace(begin, end, count - 1)[:-1] if positions[0] == 0 else np.linspace(begin, end, count)[1:-1]
    chosen = [0]
    for later, place in zip(range(count - 2, 0, -1), places, strict=True):
        free = range(chosen[-1] + 1, len(checkpoints) - later)
        chosen.append(min(free, key=lambda i: (abs(logs[i] - place), i)))
    return [checkpoints[i] for i in (*chosen, len(checkpoints) - 1)]
