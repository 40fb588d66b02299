"""How good answers are where there are references: the full model's, those with early exit, and the difference.

The category of a prompt decides what is measured, by the names that Spec-Bench and the built-in workload use:

- summaries ("summar.." in the name): ROUGE-L F of the package rouge-score, without stemming, mean over answers. Its
  words are made of a-z and 0-9, so it cannot tell anything of other scripts;
- translations ("translat.."): BLEU of the package sacrebleu with its defaults, of all answers as one corpus. What an
  answer adds to the counts of n-grams is kept by prompt, so that resamples are corpora too. Its tokens are made by
  spaces and punctuation: of languages written without spaces it says little;
- code ("code", "coding") whose reference is Python with an `assert`: share of answers that pass, if code may be run;
- the rest: share of answers that are right by the rules of `stats.answers`.

References answer the last turn. Differences are paired: both answers to a prompt are drawn together.

Non-goals: several references, semantic similarity, judges, code in other languages.

Shapes: P prompts, B resamples, S sums that a metric is made of.
"""

import ast
import importlib
import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from exitbench.decode.record import Turn
from exitbench.decode.sandbox import passes
from exitbench.stats.answers import is_right, is_usable
from exitbench.stats.bootstrap import Bootstrap, Estimate, Floats, ratio
from exitbench.stats.figure import Figure
from exitbench.stats.reasoned import Reasoned, with_reasons

__all__ = ["Metric", "TaskFigures", "code_in", "metric_of", "task_figures"]

Metric = Literal["exact_match", "rouge_l", "bleu", "tests_passed"]

_ORDER: tuple[Metric, ...] = ("exact_match", "rouge_l", "bleu", "tests_passed")
_MODULES: dict[Metric, str] = {"rouge_l": "rouge_score.rouge_scorer", "bleu": "sacrebleu.metrics"}
_FENCED = re.compile(r"```[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
_CODE_IS_OFF = "off by default: --run-code runs the answers' code on this machine"


class TaskFigures(Reasoned):
    """One metric, over the answers of the categories that it is for."""

    metric: Metric
    """Shares and ROUGE-L are 0 to 1, BLEU is 0 to 100; more is better."""
    how: str | None
    """The rule, or the package and its settings."""
    categories: list[str]
    n_answers: int
    """With a usable reference; only these count."""
    full: Figure | None
    """Of the full model's answers."""
    early: Figure | None
    """Of the answers with early exit."""
    difference: Figure | None
    """Early exit less full model, paired; below 0: early exit is worse."""


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """A metric as sums over answers, and what is made of them."""

    how: str
    sums: Callable[[str, str, str], Sequence[float]]
    """Answer, reference and category -> (S,) what the answer adds."""
    value: Callable[[Floats], Floats]
    """(B, S) sums -> (B,); NaN where nothing was added."""


def metric_of(category: str, reference: str | None) -> Metric:
    """The metric that the category of a prompt, and for code its reference, ask for."""
    category = category.lower()
    if "summar" in category:
        return "rouge_l"
    if "translat" in category:
        return "bleu"
    if category in ("code", "coding") and reference is not None and _is_tests(reference):
        return "tests_passed"
    return "exact_match"


def code_in(answer: str) -> str:
    """The first fenced block of an answer, to its end where it is never closed; all of it where there is none."""
    found = _FENCED.search(answer)
    return answer if found is None else found[1]


def task_figures(
    turns: Sequence[Turn], place: Mapping[str, int], bootstrap: Bootstrap, *, run_code: bool = False
) -> list[TaskFigures]:
    """Figures of every metric that some answer falls under.

    Args:
        turns: all answers; of a conversation only the last has a reference.
        place: prompt, 0 to P - 1, of each sample.
        bootstrap: over the P prompts.
        run_code: run the answers' Python code against references that are tests (see `sandbox`).

    Raises:
        DecodeError: code cannot be run apart here.
    """
    by_metric: dict[Metric, list[Turn]] = {}
    for turn in turns:
        by_metric.setdefault(metric_of(turn.category, turn.reference), []).append(turn)
    return [
        _figures(metric, by_metric[metric], place, bootstrap, run_code=run_code)
        for metric in _ORDER
        if metric in by_metric
    ]


def _figures(
    metric: Metric, turns: Sequence[Turn], place: Mapping[str, int], bootstrap: Bootstrap, *, run_code: bool
) -> TaskFigures:
    usable = [turn for turn in turns if turn.reference is not None and _usable(metric, turn.reference)]
    said: dict[str, Any] = {"metric": metric, "n_answers": len(usable)}
    said["categories"] = sorted({turn.category for turn in usable or turns})
    reason = None
    if not usable:
        reason = "no answer has a reference that this metric can use"
    elif metric == "tests_passed" and not run_code:
        reason = _CODE_IS_OFF
    elif package := _missing_package(metric):
        reason = f"it needs the package {package}; run: pip install 'exitbench[tasks]'"
    if reason:
        said |= with_reasons(dict.fromkeys(("how", "full", "early", "difference"), reason))
    else:
        scale = _SCALES[metric]()
        full = _estimate(scale, [(turn, turn.full_text, len(turn.full_ids)) for turn in usable], place, bootstrap)
        early = _estimate(scale, [(turn, turn.text, len(turn.ids)) for turn in usable], place, bootstrap)
        difference = early.map(lambda with_exits, without: with_exits - without, full)
        figures = {"full": full.figure(), "early": early.figure(), "difference": difference.figure()}
        said |= {"how": scale.how} | with_reasons(figures)
    return TaskFigures.model_validate(said)


def _estimate(
    scale: _Scale, answers: Sequence[tuple[Turn, str, int]], place: Mapping[str, int], bootstrap: Bootstrap
) -> Estimate:
    """One side's figure; `answers` are turns with that side's text and number of tokens."""
    rows: list[Sequence[float]] = []
    for turn, text, _ in answers:
        assert turn.reference is not None
        rows.append(scale.sums(text, turn.reference, turn.category))
    sums_PS = np.zeros((len(place), len(rows[0])))
    tokens = np.zeros(len(place))
    for row, (turn, _, length) in zip(rows, answers, strict=True):
        sums_PS[place[turn.sample_id]] += row
        tokens[place[turn.sample_id]] += length
    estimate = bootstrap.estimate(lambda weights: scale.value(weights @ sums_PS), tokens)
    # An answer without a token is an answer.
    return replace(estimate, n_prompts=len({turn.sample_id for turn, _, _ in answers}))


def _mean(how: str, score: Callable[[str, str, str], float]) -> _Scale:
    """A mean over answers."""
    return _Scale(
        how=how,
        sums=lambda answer, reference, category: (score(answer, reference, category), 1.0),
        value=lambda sums_BS: ratio(sums_BS[:, 0], sums_BS[:, 1]),
    )


def _exact_match() -> _Scale:
    return _mean(
        "the last number, or the reference's words in a row",
        lambda answer, reference, category: is_right(answer, reference, category=category),
    )


def _rouge_l() -> _Scale:
    scorer = importlib.import_module(_MODULES["rouge_l"]).RougeScorer(["rougeL"])
    return _mean(
        "rouge-score, rougeL, F, no stemming",
        lambda answer, reference, category: float(scorer.score(reference, answer)["rougeL"].fmeasure),
    )


def _bleu() -> _Scale:
    bleu = importlib.import_module(_MODULES["bleu"]).BLEU()

    def sums(answer: str, reference: str, category: str) -> Sequence[float]:
        alone = bleu.corpus_score([answer], [[reference]])
        return (alone.sys_len, alone.ref_len, *alone.counts, *alone.totals)

    def value(sums_BS: Floats) -> Floats:
        found = np.full(len(sums_BS), np.nan)
        for draw, (answered, expected, *ngrams) in enumerate(sums_BS.round().astype(int).tolist()):
            if expected:
                half = len(ngrams) // 2
                score = bleu.compute_bleu(ngrams[:half], ngrams[half:], answered, expected, smooth_method="exp")
                found[draw] = score.score
        return found

    bleu.corpus_score(["a"], [["a"]])  # the signature counts references, of which there are none before
    return _Scale(how=f"sacrebleu, {bleu.get_signature()}", sums=sums, value=value)


def _tests_passed() -> _Scale:
    return _mean("first fenced block, run apart", lambda answer, tests, category: passes(code_in(answer), tests).passed)


_SCALES: dict[Metric, Callable[[], _Scale]] = {
    "exact_match": _exact_match,
    "rouge_l": _rouge_l,
    "bleu": _bleu,
    "tests_passed": _tests_passed,
}


def _usable(metric: Metric, reference: str) -> bool:
    """Whether there is anything in a reference to compare with."""
    return bool(re.search("[a-zA-Z0-9]", reference)) if metric == "rouge_l" else is_usable(reference)


def _is_tests(reference: str) -> bool:
    """Whether a reference is Python that asserts something, rather than a word that happens to parse."""
    try:
        return any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(reference)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _missing_package(metric: Metric) -> str | None:
    """The package that a metric needs and that is not installed, if so."""
    package = _MODULES.get(metric, "").split(".")[0]
    return package if package and importlib.util.find_spec(package) is None else None
