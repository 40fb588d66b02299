"""Whether the full model's own recorded answers are right, as far as a reference can tell.

The metric of the task risk (`risk`). Two rules, plain enough to be checked by eye:

- samples of a category with "math" in its name: the last number of the answer equals the last one of the reference,
  fractions and thousands separators understood. A reference without a number falls under the other rule;
- all others: the reference, as a run of words without case and punctuation, occurs in the answer.

References answer the last turn, so that is what is compared. Exemplary answers, such as translations and summaries, are
hardly ever met word for word: such prompts count as wrong, and a wrong answer has nothing to lose. A short answer that
was cut off before its result is wrong as well: it is the recorded answer that is judged.

Non-goals: partial credit, semantic similarity, running code.
"""

import re
import unicodedata
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from exitbench.stats.bootstrap import Prompts
from exitbench.trace.table import Trace

__all__ = ["answer_texts", "is_right", "is_usable", "task_metric"]

# A minus belongs to the number unless something stands right before it, as in "10-3".
_NUMBER = re.compile(r"(?:(?<![\w.)])-)?[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+|/0*[1-9][0-9]*)?")
_NO_WORD = re.compile(r"[\W_]+")


def task_metric(trace: Trace) -> NDArray[np.float64]:
    """Return (P,) 1 where the full model's answer is right and 0 where not; NaN for prompts without a usable reference.

    Args:
        trace: a trace; prompts are those of `Prompts.of`.
    """
    prompts = Prompts.of(trace)
    metric = np.full(prompts.num_prompts, np.nan)
    for prompt, (index, text) in enumerate(answer_texts(trace).items()):
        sample = trace.samples[index]
        if sample.reference is not None and is_usable(sample.reference):
            metric[prompt] = is_right(text, sample.reference, category=sample.category)
    return metric


def answer_texts(trace: Trace) -> dict[int, str]:
    """Return the text of each sample's last turn as it was traced: index of the sample -> answer.

    Args:
        trace: a trace; samples without a token are left out.
    """
    texts: dict[int, str] = {}
    for index in np.unique(trace.sample_index):
        rows = slice(*np.searchsorted(trace.sample_index, (index, index + 1)))
        last = trace.turn[rows] == len(trace.samples[index].turns) - 1
        texts[int(index)] = "".join(trace.token_strings[int(token)] for token in trace.target_id[rows][last])
    return texts


def is_usable(reference: str) -> bool:
    """Tell whether a reference has a word or a number to look for."""
    return bool(_words(reference))


def is_right(answer: str, reference: str, *, category: str) -> bool:
    """Tell whether `answer` is what `reference` says, by the rule of its category."""
    if "math" in category.lower():
        expected = _last_number(reference)
        if expected is not None:
            return _last_number(answer) == expected
    return f" {_words(reference)} " in f" {_words(answer)} "


def _last_number(text: str) -> Fraction | None:
    found = _NUMBER.findall(text.replace("\u2212", "-"))
    return Fraction(found[-1].replace(",", "")) if found else None


def _words(text: str) -> str:
    """Words without case and punctuation, one space between them."""
    return _NO_WORD.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()
