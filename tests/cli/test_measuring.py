"""The commands that measure: what they leave, print and promise."""

import errno
import json
from unittest.mock import patch

import numpy as np
from safetensors.torch import load_file, save_file

from command_line import NUM_PROMPTS, assert_refused, contents, exitbench, run_arguments
from exitbench.models.toy import byte_tokenizer, save_toy
from exitbench.trace.record import Recorder
from exitbench.trace.store import read_trace


def test_run_leaves_trace_score_card_and_report(place):
    """A run that forgets one of its results, or that prints another score than it saves."""
    folder = place / "finished"
    files = {"trace", "score.json", "replay.json", "card.md", "report.html"}
    assert {path.name for path in folder.iterdir()} == files
    printed = json.loads((place / "stdout.json").read_text())
    assert printed == json.loads((folder / "score.json").read_text())
    assert printed["ees"].keys() == {"value", "low", "high", "n_tokens", "n_prompts"}
    assert printed["n_prompts"] == NUM_PROMPTS
    assert printed["command"].startswith("exitbench run ")
    assert len(list((folder / "trace").glob("part-*.parquet"))) == NUM_PROMPTS


def test_run_prints_a_card_for_people(place, tmp_path):
    """A run without --json that says nothing, or hides where the report is (long paths used to be broken)."""
    outcome = exitbench(*run_arguments(place), "--limit", "3", "--out", tmp_path / ("deep" * 20))
    assert outcome.code == 0
    assert "EES*" in outcome.out
    assert f"report: {tmp_path / ('deep' * 20) / 'report.html'}\n" in outcome.out


def test_default_folder_is_named_after_model_and_workload(place, tmp_path):
    """Results of different models, or of other options, that land in one folder."""
    assert exitbench(*run_arguments(place), "--limit", "3").code == 0
    assert exitbench(*run_arguments(place), "--limit", "2").code == 0
    folders = sorted(path.parent.name for path in tmp_path.glob("exitbench-out/*/report.html"))
    assert len(folders) == 2
    assert all(name.startswith("toy-prompts-limit=") for name in folders)


def test_fast_run_has_the_same_ees_and_says_what_is_missing(place, tmp_path):
    """A fast run that fails somewhere after tracing, differs from the full one, or hides what it did not measure."""
    outcome = exitbench(*run_arguments(place), "--fast", "--out", tmp_path / "fast", "--json")
    assert outcome.code == 0, outcome
    fast, full = json.loads(outcome.out), json.loads((place / "stdout.json").read_text())
    for name in ("ees", "ees_blocks", "decided", "batch", "generated_mismatch", "loop_share", "ees_without_loops"):
        assert fast[name] == full[name], name
    assert (fast["aes_1pct"], fast["aes_1pct_reason"]) == (None, "not recorded: traced with --fast")
    printed = exitbench("score", tmp_path / "fast").out
    assert "Traced with --fast" in printed
    assert "EES*  " not in printed
    assert exitbench("report", tmp_path / "fast", place / "finished", "--out", tmp_path / "both.html").code == 0


def test_optional_signals_are_recorded_when_asked_for(place, tmp_path):
    """An option that is dropped on its way to the trace, or a folder in which traces with and without it meet."""
    asked = ("--limit", "3", "--also", "kl_prev", "--also", "kl_prev")
    assert exitbench(*run_arguments(place, "trace"), *asked).code == 0
    (folder,) = tmp_path.glob("exitbench-out/*/trace")
    assert folder.parent.name == "toy-prompts-limit=3-max_new_tokens=6-also=kl_prev"
    traced, plain = read_trace(folder), read_trace(place / "finished" / "trace")
    assert traced.signals.keys() - plain.signals.keys() == {"kl_prev"}
    assert traced.manifest.settings.also == ("kl_prev",)
    assert np.isnan(traced.signals["kl_prev"][:, 0]).all()
    assert (traced.signals["kl_prev"][:, 1:] >= 0).all()
    refused = exitbench(*run_arguments(place, "trace"), "--limit", "3", "--out", folder)
    assert_refused(refused, "settings.also (['kl_prev'] there, [] now)", "another --out")


def test_run_again_resumes_and_changes_nothing(place, finished):
    """A second run that traces anew, or scores differently."""
    before = contents(finished)
    with patch.object(Recorder, "rows", side_effect=AssertionError("traced again")):
        outcome = exitbench(*run_arguments(place), "--out", finished, "--json")
    assert outcome.code == 0, outcome
    assert contents(finished / "trace") == contents(place / "finished" / "trace")
    assert contents(finished)["score.json"] == before["score.json"]


def test_precision_stops_the_run(place, tmp_path):
    """A precision that is ignored, not said on the card, or lost when the folder is scored again."""
    rows = [{"id": f"q{i}", "category": "ab"[i % 2], "prompt": f"Question number {i}?"} for i in range(64)]
    (tmp_path / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("--workload", tmp_path / "many.jsonl", "--max-new-tokens", "2", "--fast", "--quiet", "--out", "out")
    outcome = exitbench("run", place / "toy", *options, "--precision", "0.3", "--json")
    assert outcome.code == 0, outcome
    card = json.loads(outcome.out)
    assert (card["n_prompts"], card["precision"]["n_available"], card["precision"]["reached"]) == (32, 64, True)
    assert json.loads(exitbench("score", "out", "--json").out) == card
    shown = " ".join(exitbench("score", "out").out.split())
    assert "97.5 % interval" in shown
    assert "reached at look 1 of 2 with 32 of 64 prompts, 50 % of them saved" in shown
    finer = exitbench("run", place / "toy", *options, "--precision", "0.0001")
    assert finer.code == 0, finer
    assert "is what all 64 prompts give, so it was not reached" in " ".join(finer.out.split())


def test_interrupted_run_resumes_to_the_same_score(place, tmp_path):
    """Control-C that prints a traceback, or rows that depend on where a run was cut."""
    real, calls = Recorder.rows, []

    def interrupted(*arguments, **named):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    with patch.object(Recorder, "rows", interrupted):
        outcome = exitbench(*run_arguments(place), "--out", tmp_path / "out")
    assert (outcome.code, outcome.out) == (130, "")
    assert outcome.err == "interrupted; a run, trace, lens, decode or study resumes with the same command\n"
    unfinished = exitbench("score", tmp_path / "out")
    assert_refused(unfinished, f"{NUM_PROMPTS - 4} of {NUM_PROMPTS} samples are missing", "resumes")
    assert exitbench(*run_arguments(place), "--out", tmp_path / "out").code == 0
    parts, expected = contents(tmp_path / "out" / "trace"), contents(place / "finished" / "trace")
    assert {n: b for n, b in parts.items() if n != "manifest.json"} == {
        n: b for n, b in expected.items() if n != "manifest.json"
    }


def test_score_uses_the_seed_of_the_run(place, tmp_path):
    """Two different scores of one run: the one saved with --seed 3, and the one of 'exitbench score' on its folder."""
    options = ("--fast", "--seed", "3", "--out", tmp_path / "out", "--json")
    saved = json.loads(exitbench(*run_arguments(place), *options).out)
    scored = json.loads(exitbench("score", tmp_path / "out", "--json").out)
    assert scored == saved
    assert json.loads(exitbench("score", tmp_path / "out", "--seed", "0", "--json").out) != saved


def test_trace_says_what_it_traced(place, tmp_path):
    """A trace summary that cannot be used by a program, or counts other samples than it stored."""
    outcome = exitbench(*run_arguments(place, "trace"), "--limit", "6", "--out", tmp_path / "t", "--json")
    summary = json.loads(outcome.out)
    assert outcome.code == 0
    assert summary.keys() == {"trace", "n_tokens", "n_samples", "failures"}
    assert (summary["n_samples"], summary["failures"]) == (6, [])
    assert summary["trace"] == str(tmp_path / "t")
    again = exitbench(*run_arguments(place, "trace"), "--limit", "6", "--out", tmp_path / "t")
    assert again.out == f"{summary['n_tokens']} tokens of 6 samples in {tmp_path / 't'}\n"


def test_trace_a_plain_text(place, tmp_path):
    """A text file that is answered instead of read, or cut into no documents."""
    (tmp_path / "book.txt").write_text("It was a dark and stormy night. " * 40)
    arguments = ("--workload", tmp_path / "book.txt", "--out", tmp_path / "t", "--json", "--quiet")
    outcome = exitbench("trace", place / "toy", *arguments)
    assert outcome.code == 0, outcome
    assert json.loads(outcome.out)["n_samples"] == 3
    card = json.loads(exitbench("score", tmp_path / "t", "--json").out)
    assert card["settings"]["on"] == "text"
    assert card["loop_share"] is None
    assert card["loop_share_reason"]


def test_run_says_why_it_replays_nothing(place, tmp_path):
    """A run of few prompts that fails after tracing, or leaves policies out in silence."""
    outcome = exitbench(*run_arguments(place)[:-1], "--limit", "3", "--out", tmp_path / "few")
    assert outcome.code == 0, outcome
    assert "cross-fitting needs at least 10 prompts, the trace has 3" in " ".join(outcome.err.split())
    assert not (tmp_path / "few" / "replay.json").exists()


def test_corrupt_part_is_named_and_can_be_left_out(finished):
    """A damaged part that is scored, dropped in silence, or that makes all others useless."""
    part = finished / "trace" / "part-00003.parquet"
    part.write_bytes(part.read_bytes()[:200])
    assert_refused(exitbench("score", finished), "part-00003.parquet", "--skip-corrupt")
    assert_refused(exitbench("report", finished, "--out", "page.html"), "part-00003.parquet")
    outcome = exitbench("score", finished, "--skip-corrupt", "--json")
    card = json.loads(outcome.out)
    assert outcome.code == 1
    assert (card["n_prompts"], card["n_failed"]) == (NUM_PROMPTS - 1, 1)
    assert outcome.err.startswith(f"1 of {NUM_PROMPTS} samples failed; first: ")
    assert outcome.err.endswith(": part-00003.parquet is corrupt and was left out\n")


def test_non_finite_logits_fail_their_sample_alone(place, tmp_path):
    """A NaN that ends the run, is scored as a number, or spoils the samples beside it."""
    folder = save_toy(tmp_path / "neox", "gpt_neox")  # embedding and head are not tied, so only the input is hit
    weights = load_file(folder / "model.safetensors")
    poisoned = byte_tokenizer().convert_tokens_to_ids("z")
    weights["gpt_neox.embed_in.weight"][poisoned] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    rows = [{"id": str(i), "text": f"A text without that letter, number {i}."} for i in range(3)]
    rows[1]["text"] = "A text that says zebra."
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ("--workload", tmp_path / "texts.jsonl", "--out", tmp_path / "out", "--quiet", "--json")
    outcome = exitbench("run", folder, *arguments)
    card = json.loads(outcome.out)
    assert outcome.code == 1
    assert "1 of 3 samples failed; first: 1/00000: logits are not finite at depth" in outcome.err
    assert (card["n_prompts"], card["n_failed"]) == (2, 1)
    assert (tmp_path / "out" / "report.html").exists()
    traced = exitbench("trace", folder, *arguments[:2], "--out", tmp_path / "out" / "trace", "--quiet", "--json")
    assert traced.code == 1
    assert [failure["sample_id"] for failure in json.loads(traced.out)["failures"]] == ["1/00000"]


def test_full_disk_leaves_nothing_half_written(place, tmp_path):
    """A full disk that ends in a traceback, a half part that a later run takes for whole, or litter."""
    num_writes = 0

    def full_after_six(_descriptor):
        nonlocal num_writes
        num_writes += 1
        if num_writes > 6:
            raise OSError(errno.ENOSPC, "No space left on device")

    with patch("exitbench.files.os.fsync", full_after_six):
        outcome = exitbench(*run_arguments(place, "trace"), "--out", tmp_path / "out")
    assert_refused(outcome, "cannot write", "No space left on device", "free some space")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.endswith(".tmp")]
    assert len(list((tmp_path / "out").glob("part-*.parquet"))) == 3
    assert exitbench(*run_arguments(place, "trace"), "--out", tmp_path / "out").code == 0
    for part in (place / "finished" / "trace").glob("part-*.parquet"):
        assert (tmp_path / "out" / part.name).read_bytes() == part.read_bytes()
