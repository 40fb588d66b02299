"""What a workload is: samples in a fixed order, a category for each, and a hash over their content.

The hash covers the samples alone (id, category, turns, reference, in order), so the same samples have the
same hash under any name and in any file. What every sample must satisfy is checked here, once, when it is
built; loaders add where in the file the fault lies.
"""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Literal, get_args

from exitbench.errors import WorkloadError

__all__ = ["Kind", "Sample", "Workload", "spread", "stratified_order"]

Kind = Literal["prompts", "text"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One prompt, conversation or text.

    Raises:
        WorkloadError: an empty field, or text that cannot be written as UTF-8.
    """

    id: str
    """Unique within its workload and stable across loads."""
    category: str
    turns: tuple[str, ...]
    """What the user says, turn by turn; of a workload of texts, the text alone."""
    reference: str | None = None
    """The right or an exemplary answer to the last turn, if there is one."""

    def __post_init__(self) -> None:
        if not isinstance(self.turns, tuple) or not self.turns:
            raise WorkloadError("'turns' is empty or no tuple; give at least one prompt")
        _check_text("id", self.id)
        _check_text("category", self.category)
        for index, turn in enumerate(self.turns):
            _check_text("prompt" if len(self.turns) == 1 else f"turns[{index}]", turn)
        if self.reference is not None:
            _check_text("reference", self.reference)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Samples that are measured together.

    Raises:
        WorkloadError: no samples, two samples of one id, or a text of several turns.
    """

    name: str
    version: str
    """The author's version, or "unversioned"; the hash tells two contents apart in any case."""
    licence: str | None
    kind: Kind
    """"prompts" are answered by the model; a "text" is read as it stands."""
    samples: tuple[Sample, ...]

    def __post_init__(self) -> None:
        _check_text("name", self.name)
        if self.kind not in get_args(Kind):
            raise WorkloadError(f"workload kind {self.kind!r} is unknown; expected 'prompts' or 'text'")
        if not self.samples:
            raise WorkloadError(f"workload {self.name!r} has no samples; give at least one")
        repeated = [id_ for id_, count in Counter(sample.id for sample in self.samples).items() if count > 1]
        if repeated:
            raise WorkloadError(f"workload {self.name!r} uses the id {repeated[0]!r} twice; make ids unique")
        if self.kind == "text" and any(len(sample.turns) > 1 for sample in self.samples):
            raise WorkloadError(f"workload {self.name!r} holds texts; a text has one turn only")

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over the canonical JSON of the samples: 64 hexadecimal digits, whatever name and path."""
        rows = [asdict(sample) for sample in self.samples]
        canonical = json.dumps(rows, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()

    @property
    def categories(self) -> dict[str, int]:
        """Number of samples by category, in order of first appearance."""
        return dict(Counter(sample.category for sample in self.samples))

    def limited(self, n: int) -> "Workload":
        """Return a workload of `n` samples, spread over the categories as `spread` says.

        Args:
            n: number of samples; from the workload's own number on, the workload itself is returned.

        Raises:
            WorkloadError: `n` is below 1.
        """
        if n < 1:
            raise WorkloadError(f"limit is {n}; expected at least 1 sample")
        if n >= len(self.samples):
            return self
        chosen = spread([sample.category for sample in self.samples], n)
        return replace(self, samples=tuple(self.samples[index] for index in chosen))


def spread(categories: Sequence[str], n: int) -> list[int]:
    """Choose `n` entries spread over their categories.

    Every category gets its first entry before any gets a second; beyond that each has its share of the whole.
    Those of one category are its first. A smaller choice is always a subset of a larger one, so results with
    two limits share samples.

    Args:
        categories: category of each entry.
        n: number of entries to choose; all, if there are no more.

    Returns:
        Indices of the chosen, ascending.
    """
    sizes, seen = Counter(categories), Counter[str]()
    priority = []
    for index, category in enumerate(categories):
        rank = seen[category]
        seen[category] += 1
        # the share of its category that is taken by then, so that unequal categories fill up in step
        share = (rank + 0.5) / sizes[category] if rank else 0.0
        priority.append((share, index))
    return sorted(index for _, index in sorted(priority)[:n])


def stratified_order(categories: Sequence[str], seed: int) -> list[int]:
    """Put entries into a random order of which every beginning has the mix of the whole.

    Among the first n, a category has its share of n, rounded up or down; which of its entries come first, and which
    categories are rounded up, is drawn. A beginning is thus a stratified random sample of all entries.

    Args:
        categories: category of each entry.
        seed: of what is drawn; nothing else about the entries has a say.

    Returns:
        All indices, in that order.
    """
    draw = random.Random(seed).random  # noqa: S311 -- same in every version of Python
    sizes, seen = Counter(categories), Counter[str]()
    offsets = {category: draw() for category in sizes}
    priority = []
    for _, index in sorted((draw(), index) for index in range(len(categories))):
        category = categories[index]
        priority.append(((seen[category] + offsets[category]) / sizes[category], index))
        seen[category] += 1
    return [index for _, index in sorted(priority)]


def _check_text(field: str, text: str) -> None:
    if not isinstance(text, str):
        raise WorkloadError(f"{field!r} is {type(text).__name__}; expected a string")
    if not text.strip():
        raise WorkloadError(f"{field!r} is empty; remove the sample or give it some text")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise WorkloadError(
            f"{field!r} holds half of a surrogate pair at character {error.start + 1}; mend its \\u escapes"
        ) from error
