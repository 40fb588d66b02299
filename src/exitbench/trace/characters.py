"""How many characters of the text each token of a trace on text stands for.

A model with a larger vocabulary has fewer, longer tokens, so that a mean over tokens is a mean over other things than
another model's. Characters of the text are the same for both.

A token counts with the length of its own text. Pieces of a character that takes several tokens (bytes, as a rule)
have no text of their own: those of a document share evenly the characters that its other tokens leave over. So the
counts of a document's tokens add up to its text, by construction where it has such pieces, and else but for a space
that some tokenisers take from the beginning of every text; they are scaled to it. Where more characters than one, and
than 1 %, are not those of the text, token texts are not what it is made of (pieces marked "##", spaces taken out in
front of punctuation), and there is no count.

Non-goals: characters of the original file; the document is what its tokens decode to.
"""

from collections import Counter
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from exitbench.trace.table import Trace

__all__ = ["token_characters"]

Floats = NDArray[np.float64]

_BROKEN = "\N{REPLACEMENT CHARACTER}"
_SLACK = 0.01
_MOST_START_TOKENS = 2


def token_characters(trace: Trace) -> Floats | str:
    """Count the characters of each predicted token, (N,), not always whole numbers; or say why that cannot be.

    Args:
        trace: on text, whose samples are documents.
    """
    if not trace.token_strings:
        return "the trace has no texts of tokens"
    counts = [np.zeros(0)]
    bounds = np.flatnonzero(np.diff(trace.sample_index, prepend=-1, append=-1))
    for first, end in pairwise(bounds):
        document = trace.samples[trace.sample_index[first]]
        ids = [trace.input_id[first], *trace.target_id[first:end]]
        shares = _shares([trace.token_strings[int(token)] for token in ids], document.turns[0])
        if shares is None:
            return f"the texts of single tokens do not add up to that of the document {document.id!r}"
        counts.append(shares[1:])
    return np.concatenate(counts)


def _shares(strings: list[str], text: str) -> Floats | None:
    """Characters of `text` by token; None where the texts of the tokens are not what it is made of."""
    begin = _first_of_text(strings, text)
    whole = np.array([place >= begin and _BROKEN not in string for place, string in enumerate(strings)])
    broken = ~whole & (np.arange(len(strings)) >= begin)
    shares = np.where(whole, [float(len(string)) for string in strings], 0.0)
    have, there = Counter("".join(np.array(strings, dtype=object)[whole])), Counter(text)
    too_many, left_over = (have - there).total(), (there - have).total()
    slack = max(1.0, _SLACK * len(text))
    if too_many > slack or (left_over > slack and not broken.any()):
        return None
    shares[broken] = left_over / max(1, broken.sum())
    total = shares.sum()
    return shares * (len(text) / total) if total > 0 else shares


def _first_of_text(strings: list[str], text: str) -> int:
    """Place of the token that the text begins with: start tokens are before it, and not in the text."""

    def begins(string: str) -> bool:
        return _BROKEN in string or text.lstrip().startswith(string.strip())

    return next((place for place, string in enumerate(strings[: _MOST_START_TOKENS + 1]) if begins(string)), 0)
