"""Metrics of answers with references, against cases worked out by hand."""

import importlib
import importlib.util
import io
import math

import numpy as np
import pytest
from rich.console import Console

from exitbench import api
from exitbench.config import DecodeOptions
from exitbench.decode import tasks
from exitbench.decode.record import Turn
from exitbench.decode.result import Decoding
from exitbench.decode.sandbox import Verdict
from exitbench.decode.tasks import code_in, metric_of, task_figures
from exitbench.models.toy import save_toy
from exitbench.policies.static import FixedDepth
from exitbench.report.decoding import decoding_tables
from exitbench.stats.bootstrap import Bootstrap, draw_weights
from exitbench.workloads import Sample, Workload

TESTS = "assert add(1, 2) == 3"


def turn(number, category, reference, full, early):
    return Turn(
        sample_id=f"{number}",
        category=category,
        turn=0,
        reference=reference,
        num_prompt_tokens=1,
        full_ids=(1, 2),
        ids=(1, 2, 3),
        depths=(1, 1, 1),
        full_text=full,
        text=early,
        full_nll=1.0,
        nll=1.0,
    )


def figures_of(turns, **options):
    place = {sample: number for number, sample in enumerate(dict.fromkeys(t.sample_id for t in turns))}
    weights = draw_weights(["a"] * len(place), draws=200, rng=np.random.default_rng(0))
    return task_figures(turns, place, Bootstrap(weights=weights), **options)


@pytest.mark.parametrize(
    ("category", "reference", "metric"),
    [
        ("summarization", "x", "rouge_l"),
        ("summarise", None, "rouge_l"),
        ("translation", "x", "bleu"),
        ("Translate", "x", "bleu"),
        ("code", TESTS, "tests_passed"),
        ("coding", f"import math\n\nif True:\n    {TESTS}", "tests_passed"),
        ("code", "sorted", "exact_match"),
        ("code", "1 2 1 3", "exact_match"),
        ("code", "a\x00b", "exact_match"),
        ("decode", TESTS, "exact_match"),
        ("math_reasoning", "x = 3", "exact_match"),
        ("rag", "x", "exact_match"),
    ],
)
def test_category_decides(category, reference, metric):
    """A translation that has to be met word for word; a word that happens to be Python run as a test."""
    assert metric_of(category, reference) == metric


def test_rouge_l_by_hand():
    """Precision in place of F, words out of order counted, or a sum in place of the mean."""
    (found,) = figures_of(
        [
            turn(0, "summarization", "the cat sat on the mat", "the cat sat on the mat", "The cat is on a mat."),
            turn(1, "summarization", "one two three four", "one two", "four three two one"),
        ]
    )
    # "the cat on mat": 4 of 6 and of 6. "one two": 2 of 2 and 2 of 4. One word in order: 1 of 4 and of 4.
    assert found.full.value == pytest.approx((1 + 2 * 1 * 0.5 / 1.5) / 2)
    assert found.early.value == pytest.approx((4 / 6 + 1 / 4) / 2)
    assert found.difference.value == pytest.approx(found.early.value - found.full.value)
    assert (found.metric, found.categories, found.n_answers) == ("rouge_l", ["summarization"], 2)


def test_bleu_is_of_the_corpus():
    """A mean of sentences' BLEU; a brevity penalty left out; early exit and full model exchanged."""
    (found,) = figures_of(
        [
            turn(0, "translation", "a b c d e", "a b c d e", "a b c d e"),
            turn(1, "translation", "f g h i j", "f g h i j", "f g h x"),
        ]
    )
    assert found.full.value == pytest.approx(100)
    # Of 1 to 4 tokens in a row, of both sentences: 8 of 9, 6 of 7, 4 of 5, 2 of 3; 9 tokens for 10.
    ngrams = 8 / 9 * 6 / 7 * 4 / 5 * 2 / 3
    assert found.early.value == pytest.approx(100 * math.exp(1 - 10 / 9) * ngrams**0.25)
    assert "tok:13a" in found.how


def test_bleu_resamples_are_corpora():
    """An interval of a mean over prompts around a corpus's figure; a figure that its own interval leaves out."""
    (found,) = figures_of(
        [turn(n, "translation", "a b c d e f", "a b c d e f", "a b c d e f" if n % 2 else "a b x") for n in range(20)]
    )
    assert found.early.low < found.early.value < found.early.high < 100
    assert (found.full.low, found.full.high) == pytest.approx((100, 100))
    assert found.difference.high == pytest.approx(found.early.high - 100)


def test_exact_match_by_the_rules_of_answers():
    """Rules of its own, under which a number needs the reference's words; counts of the other side's tokens."""
    (found,) = figures_of(
        [
            turn(0, "math", "5 + 13 = 18", "It is 18.", "It is 19."),
            turn(1, "math", "7", "It is 7.", "7"),
            turn(2, "qa", "Lake Baikal", "it is LAKE BAIKAL!", "Lake Victoria"),
            turn(3, "qa", "?!", "?!", "?!"),
            turn(4, "writing", None, "a", "a"),
        ]
    )
    assert (found.full.value, found.early.value) == pytest.approx((1, 1 / 3))
    assert (found.categories, found.n_answers) == (["math", "qa"], 3)
    assert (found.full.n_tokens, found.early.n_tokens, found.early.n_prompts) == (6, 9, 3)
    assert found.early.low is None  # fewer than 10 prompts


def test_difference_is_paired():
    """Both sides resampled on their own, which makes a constant difference uncertain."""
    summary = " ".join("abcdefghij")
    turns = [turn(n, "summarise", summary, summary[: 2 * n + 3], summary[: 2 * n + 3]) for n in range(8)]
    turns += [turn(n, "summarise", summary, summary[:n], summary[:n]) for n in range(8, 16)]
    (found,) = figures_of(turns)
    assert found.full.high - found.full.low > 0.05
    assert (found.difference.low, found.difference.value, found.difference.high) == (0, 0, 0)


@pytest.mark.parametrize(
    ("category", "metric"), [("summarise", "rouge_l"), ("translate", "bleu"), ("qa", "exact_match")]
)
def test_no_reference_is_null_with_a_reason(category, metric, monkeypatch):
    """0 where nothing is known; a package asked for that nothing needs."""
    monkeypatch.setattr(importlib, "import_module", None)
    (found,) = figures_of([turn(n, category, reference, "x", "x") for n, reference in enumerate([None, "..."])])
    assert (found.metric, found.n_answers, found.categories) == (metric, 0, [category])
    written = found.model_dump(mode="json")
    for name in ("how", "full", "early", "difference"):
        assert written[name] is None
        assert "reference" in written[f"{name}_reason"]


@pytest.mark.parametrize(("category", "package"), [("summarise", "rouge_score"), ("translate", "sacrebleu")])
def test_missing_package_says_how_to_get_it(category, package, monkeypatch):
    """A traceback, or all other figures lost, in place of the line that installs what is missing."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (found,) = figures_of([turn(0, category, "x", "x", "x")])
    assert found.full is None
    assert package in found.reasons["full"]
    assert "pip install 'exitbench[tasks]'" in found.reasons["full"]


def test_code_is_run_only_when_asked(monkeypatch):
    """A model's code run without a word from the user; answers that are not code run as they are."""
    right = "Sure:\n```python\ndef add(a, b):\n    return a + b\n```\nDone."
    turns = [turn(0, "code", TESTS, right, "I cannot."), turn(1, "code", TESTS, right, right)]
    with monkeypatch.context() as patch:
        patch.setattr(tasks, "passes", None)
        (found,) = figures_of(turns)
    assert found.full is None
    assert "off by default" in found.reasons["full"]
    (found,) = figures_of(turns, run_code=True)
    assert (found.full.value, found.early.value, found.difference.value) == (1, 0.5, -0.5)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("x = 1", "x = 1"),
        ("So:\n```python\nx = 1\n```\nor\n```\ny\n```", "x = 1\n"),
        ("```\nx = 1", "x = 1"),
    ],
)
def test_code_in_an_answer(answer, code):
    """Prose run as code; an answer that was cut off without any."""
    assert code_in(answer) == code


def test_from_a_workload_to_what_is_shown(tmp_path, monkeypatch):
    """References that get lost on the way; figures that cannot be read back; code run, or a folder left, unasked."""
    asked = (("summarise", "x"), ("code", TESTS), ("translate", None))
    samples = tuple(
        Sample(id=category, category=category, turns=("how many?",), reference=reference)
        for category, reference in asked
    )
    workload = Workload(name="w", version="1", licence=None, kind="prompts", samples=samples)
    model = api.load(str(save_toy(tmp_path / "toy")))
    run = []
    monkeypatch.setattr(tasks, "passes", lambda code, tests: run.append(tests) or Verdict(passed=True, reason=None))
    policy, folder = FixedDepth(threshold=2), tmp_path / "out"
    plain, asked_for = (DecodeOptions(max_new_tokens=4, run_code=run_code) for run_code in (False, True))
    result = api.decode(model, workload, policy, out=folder, options=plain)
    assert not run
    assert [task.metric for task in result.tasks] == ["rouge_l", "bleu", "tests_passed"]
    assert Decoding.model_validate_json(result.model_dump_json()) == result
    console = Console(width=200, file=io.StringIO())
    console.print(decoding_tables(result))
    shown = console.file.getvalue()
    for words in ("ROUGE-L: summarise", "tests passed: code", "off by default", "no answer has a reference"):
        assert words in shown
    before = (folder / "batches.jsonl").read_bytes()
    assert api.decode(model, workload, policy, out=folder, options=asked_for).tasks[-1].full.value == 1
    assert run == [TESTS, TESTS]
    assert (folder / "batches.jsonl").read_bytes() == before
    names = {api.default_decode_folder(model, workload, policy, options) for options in (plain, asked_for)}
    assert len(names) == 1
