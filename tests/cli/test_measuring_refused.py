"""What `run` and `trace` refuse: one line that says what to do, and nothing written."""

import json
import shutil
from pathlib import Path

import pytest

from command_line import assert_refused, contents, exitbench, run_arguments


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--max-new-tokens", "0"), ("--max-new-tokens is 0", "at least 1")),
        (("--max-new-tokens", "many"), ("--max-new-tokens", "exitbench run --help")),
        (("--limit", "0"), ("--limit is 0",)),
        (("--precision", "0"), ("--precision is 0.0", "above 0", "0.02")),
        (("--precision", "-0.1"), ("--precision is -0.1",)),
        (("--precision", "0.5"), ("--precision is 0.5", "below 0.5")),
        (("--precision", "nan"), ("--precision is nan",)),
        (("--precision", "fine"), ("--precision", "exitbench run --help")),
        (("--precision", "0.02", "--limit", "9"), ("--precision needs at least 10 prompts", "got 9")),
        (("--on", "thin air"), ("--on", "'answers'")),
        (("--dtype", "float64"), ("--dtype", "'float32'")),
        (("--device", "abacus"), ("device 'abacus'", "--device cpu")),
        (("--max-memory", "cpu=1GB"), ("--max-memory goes with --device auto",)),
        (("--device", "auto", "--max-memory", "8"), ("--max-memory has '8'", "cpu=8GiB")),
        (("--attention", "telepathy"), ("--attention is 'telepathy'", "sdpa")),
        (("--readout", "tuned:nowhere"), ("--readout", "no file nowhere", "exitbench lens")),
        (("--readout", "nuned:nowhere"), ("--readout", "'logit'", "tuned:FILE")),
        (("--readout", "tuned:"), ("--readout", "'logit'", "tuned:FILE")),
        (("--revision", "main"), ("--revision 'main'", "not a hub id")),
        (("--workload", "minni"), ("unknown workload 'minni'", "did you mean 'mini'")),
        (("--workload", "missing.jsonl"), ("missing.jsonl",)),
        (("--also", "kl_prv"), ("unknown signal 'kl_prv'", "did you mean 'kl_prev'")),
        (("--also", "entropy"), ("--also names 'entropy', which every trace records", "kl_prev")),
        (("--also", "kl_prev", "--fast"), ("--also kl_prev", "--fast records no signals")),
        (("--sead", "1"), ("--sead", "--seed")),
    ],
)
def test_wrong_option_is_refused(place, tmp_path, options, words):
    """A mistake that costs a traceback, a screen of help, or a folder that looks like a result."""
    assert_refused(exitbench(*run_arguments(place), "--out", tmp_path / "out", *options), *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ("bad.jsonl is empty",)),
        ('{"prompt": "one"}\n{"prompt": \n', ("bad.jsonl:2:", "not JSON")),
        ('{"prompt": "one"}\n\n{"prompt": "two"}\n', ("bad.jsonl:2:", "blank")),
        ('{"prompt": "one"}\n["two"]\n', ("bad.jsonl:2:", "expected an object")),
        ('{"prompt": "one", "catgory": "chat"}\n', ("bad.jsonl:1:", "did you mean 'category'")),
        ('{"prompt": "' + "long " * 600 + '"}\n', ("context of 2048 tokens", "'1'")),
    ],
)
def test_bad_workload_is_refused_with_its_line(place, tmp_path, content, words):
    """A malformed file that is read in part, or a prompt that is cut off in silence."""
    (tmp_path / "bad.jsonl").write_text(content)
    outcome = exitbench(*run_arguments(place), "--workload", tmp_path / "bad.jsonl", "--out", tmp_path / "out")
    assert_refused(outcome, *words)
    assert not (tmp_path / "out").exists()


def test_answers_to_a_plain_text_are_refused(place, tmp_path):
    """A book taken for one long question."""
    (tmp_path / "book.txt").write_text("It was a dark and stormy night.")
    outcome = exitbench(
        *run_arguments(place), "--workload", tmp_path / "book.txt", "--on", "answers", "--out", tmp_path / "out"
    )
    assert_refused(outcome, "'book'", "--on text")
    assert not (tmp_path / "out").exists()


def test_unknown_model_is_refused(place):
    """A typing error that is looked up on the hub for minutes."""
    assert_refused(exitbench("trace", "smollm2", "--quiet"), "unknown model 'smollm2'", "smollm2-135m-instruct")
    assert_refused(exitbench("trace", place, "--quiet"), "no config.json")
    assert_refused(exitbench("trace", place / "prompts.jsonl", "--quiet"), "is not a model")


def test_unknown_architecture_is_refused(place, tmp_path):
    """An architecture that ends in a traceback of transformers."""
    folder = Path(shutil.copytree(place / "toy", tmp_path / "odd"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "frobnicator", "architectures": ["Frob"]}))
    assert_refused(exitbench("run", folder, "--quiet", "--out", tmp_path / "out"), "'frobnicator'", "transformers")
    assert not (tmp_path / "out").exists()


def test_other_identity_is_refused_and_left_alone(place, finished):
    """Rows of two measurements mixed in one folder, or the older one overwritten."""
    before = contents(finished)
    outcome = exitbench(*run_arguments(place), "--max-new-tokens", "7", "--out", finished)
    assert_refused(outcome, "another trace", "max_new_tokens (6 there, 7 now)", "--out")
    assert contents(finished) == before


def test_fast_and_full_do_not_mix(place, finished):
    """Samples with and without signals in one trace."""
    before = contents(finished)
    outcome = exitbench(*run_arguments(place, "trace"), "--fast", "--out", finished / "trace")
    assert_refused(outcome, "settings.recorded (signals there, decisions now)", "another --out")
    assert contents(finished) == before


def test_foreign_folder_is_refused(place, tmp_path):
    """A trace written among somebody's own files."""
    (tmp_path / "thesis.tex").write_text("dear")
    assert_refused(exitbench(*run_arguments(place, "trace"), "--out", tmp_path), "holds no trace", "--out")
    assert (tmp_path / "thesis.tex").exists()


def test_terminal_escapes_of_a_sample_id_stay_in_the_file(place, tmp_path):
    """A prompt file that renames the reader's terminal or colours its prompt."""
    row = {"id": "\x1b]0;pwn\x07\x1b[31mX", "prompt": "word " * 3000}
    (tmp_path / "hostile.jsonl").write_text(json.dumps(row) + "\n")
    outcome = exitbench("trace", place / "toy", "--workload", tmp_path / "hostile.jsonl", "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "\x1b" not in outcome.err.replace("\x1b[0m", "")
