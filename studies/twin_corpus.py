"""The text that the twins learn: questions with answers from a seeded grammar, and real text beside them if wanted.

The grammar is predictable enough for a model of a few MB to learn in minutes, and uneven in how hard it is: the rest of
a word follows from its first letters, a count from the numbers before it, a sum only from the question. What is held
out is decided by the hash of a question alone, so the same question is never trained on under any seed, length or mix.

Non-goals: variety, and being a language.
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from exitbench.workloads import Workload, load_workload

__all__ = ["KINDS", "Document", "generated", "held_out", "mixed", "real"]

HELD_OUT_SHARE = 8
"""One question of this many is held out."""

_PIECE = 400
_LEAST_PIECE = 40
_NAMES = "Anna Ben Clara David Emma Felix Greta Hugo"
_ANIMALS = "dog cat horse rabbit duck fox"
_PLACES = "river forest market bridge garden station"
_COLOURS = "red blue green black white brown"
_THINGS = "apple basket candle guitar hammer kettle ladder mirror"
_SEQUENCES = {
    "days": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "months": "January February March April May June July August September October November December",
    "letters": "a b c d e f g h i j k l m n o p q r s t u v w x y z",
    "numbers": "one two three four five six seven eight nine ten eleven twelve",
    "planets": "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune",
}


@dataclass(frozen=True, kw_only=True)
class Document:
    """A question and its answer."""

    kind: str
    """One of `KINDS`, or "text"."""
    prompt: str
    answer: str
    whole: str | None = None
    """What it is a part of; all parts of it are held out, or none. None: it is one by itself."""

    @property
    def text(self) -> str:
        """What is learnt, without an end token."""
        return self.prompt + self.answer

    @property
    def is_held_out(self) -> bool:
        """Whether it is never trained on."""
        return hashlib.sha256((self.whole or self.prompt).encode("utf-8")).digest()[0] % HELD_OUT_SHARE == 0


def _count(draw: random.Random) -> tuple[str, str]:
    start, step = draw.randrange(1, 60), draw.choice((1, 2, 3, 5, 10))
    terms = ", ".join(str(start + step * index) for index in range(1, 13))
    return f"Count from {start} in steps of {step}.\n", f"{terms}."


def _add(draw: random.Random) -> tuple[str, str]:
    left, right = draw.randrange(1, 21), draw.randrange(1, 21)
    total = left + right
    return (
        f"What is {left} plus {right}?\n",
        f"{left} plus {right} is {total}. So {right} plus {left} is {total}, and {total} minus {left} is {right}.",
    )


def _story(draw: random.Random) -> tuple[str, str]:
    name, animal, place, colour, thing = (
        draw.choice(words.split()) for words in (_NAMES, _ANIMALS, _PLACES, _COLOURS, _THINGS)
    )
    return (
        f"Tell a story of {name}, a {colour} {animal} and the {place}.\n",
        f"One morning {name} walked to the {place}. There {name} saw a {colour} {animal}. The {animal} had lost its "
        f"{thing}. {name} looked for the {thing} and found it near the {place}. The {colour} {animal} was happy, and "
        f"{name} went home.",
    )


def _next(draw: random.Random) -> tuple[str, str]:
    what = draw.choice(sorted(_SEQUENCES))
    items = _SEQUENCES[what].split()
    start, length = draw.randrange(len(items)), draw.randrange(4, 9)
    following = (items[(start + index) % len(items)] for index in range(1, length + 1))
    return f"Which {length} {what} follow {items[start]}?\n", f"{', '.join(following)}."


def _repeat(draw: random.Random) -> tuple[str, str]:
    words = " ".join(draw.sample([*_THINGS.split(), *_ANIMALS.split(), *_COLOURS.split()], 3))
    return f"Say three times: {words}.\n", f"{words}, {words}, {words}."


def _spell(draw: random.Random) -> tuple[str, str]:
    words = draw.sample([*_THINGS.split(), *_ANIMALS.split(), *_PLACES.split()], 2)
    spelt = " ".join(f"{word} is {'-'.join(word)}." for word in words)
    return f"Spell {words[0]} and {words[1]}.\n", spelt


_MAKERS: dict[str, Callable[[random.Random], tuple[str, str]]] = {
    "count": _count,
    "add": _add,
    "story": _story,
    "next": _next,
    "repeat": _repeat,
    "spell": _spell,
}
KINDS = tuple(_MAKERS)
"""Kinds of question, in the order in which they take turns."""


def generated(seed: int) -> Iterator[Document]:
    """Questions without end, every kind in turn, the same for the same seed."""
    draw = random.Random(seed)
    while True:
        for kind, make in _MAKERS.items():
            prompt, answer = make(draw)
            yield Document(kind=kind, prompt=prompt, answer=answer)


def real(file: Path) -> list[Document]:
    """The paragraphs of a workload file, in pieces of at most 400 characters, of which the first half is the prompt."""
    workload: Workload = load_workload(str(file))
    turns = (turn for sample in workload.samples for turn in sample.turns)
    paragraphs = dict.fromkeys(paragraph.strip() for turn in turns for paragraph in turn.split("\n\n"))
    pieces = ((whole, whole[at : at + _PIECE]) for whole in paragraphs for at in range(0, len(whole), _PIECE))
    return [
        Document(kind="text", prompt=piece[: len(piece) // 2], answer=piece[len(piece) // 2 :], whole=whole)
        for whole, piece in pieces
        if len(piece) >= _LEAST_PIECE
    ]


def mixed(seed: int, texts: list[Document], *, held: bool = False) -> Iterator[Document]:
    """Documents without end that are held out, or those that are not.

    Args:
        seed: of the grammar and of the order of texts.
        texts: real ones; if there are any, every third document is one of them, in a new order each time round.
        held: those that are held out.
    """
    pool = [document for document in texts if document.is_held_out == held]
    grammar = (document for document in generated(seed) if document.is_held_out == held)
    draw = random.Random(seed)
    while True:
        if not pool:
            yield from grammar
        for text in draw.sample(pool, len(pool)):
            yield from islice(grammar, 2)
            yield text


def held_out(seed: int, texts: list[Document], *, per_kind: int) -> list[Document]:
    """Held-out documents with different prompts, `per_kind` of each kind, or as many as turn up."""
    wanted = dict.fromkeys(KINDS, per_kind)
    if texts:
        wanted["text"] = min(per_kind, len({text.prompt for text in texts if text.is_held_out}))
    chosen: dict[str, Document] = {}
    for document in islice(mixed(seed, texts, held=True), 1000 * per_kind):
        if wanted[document.kind] and document.prompt not in chosen:
            chosen[document.prompt] = document
            wanted[document.kind] -= 1
        if not any(wanted.values()):
            break
    return sorted(chosen.values(), key=lambda document: document.kind)
