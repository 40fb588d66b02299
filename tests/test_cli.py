"""The command line as its users meet it: files, exit codes, and what goes to which stream."""

import errno
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch
import typer
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM

from command_line import Outcome, exitbench
from exitbench import __version__, api
from exitbench.cli import app
from exitbench.cli.printing import fail_if_samples_failed
from exitbench.models.toy import byte_tokenizer, save_toy
from exitbench.replay.profiles import load_profile
from exitbench.replay.result import Replay
from exitbench.study.results import rows_of_file
from exitbench.study.rows import write_rows
from exitbench.trace.record import Recorder
from exitbench.trace.store import read_trace
from exitbench.trace.table import Failure, SampleInfo
from result_rows import model_row
from study_rows import cell_rows, failed, row

NUM_PROMPTS = 12
OPTIONS_OF_A_TRACE = {
    *("--workload", "--on", "--limit", "--max-new-tokens", "--chat-template", "--no-chat-template", "--dtype"),
    *("--device", "--max-memory", "--attention", "--readout", "--revision", "--trust-remote-code", "--out", "--seed"),
    *("--fast", "--also", "--precision", "--memory", "--json", "--quiet"),
}
OPTIONS = {
    "run": OPTIONS_OF_A_TRACE,
    "trace": OPTIONS_OF_A_TRACE,
    "lens": {
        *("--workload", "--out", "--tokens", "--learning-rate", "--seed", "--dtype", "--device", "--max-memory"),
        *("--attention", "--revision", "--trust-remote-code", "--json", "--quiet"),
    },
    "score": {"--skip-corrupt", "--seed", "--json"},
    "replay": {
        *("--policy", "--probes", "--category", "--eps", "--procedure", "--risk", "--delta", "--batch", "--context"),
        *("--profile", "--seed", "--save-policies", "--out", "--json", "--quiet"),
    },
    "decode": {
        *("--workload", "--policy", "--threshold", "--probes", "--state", "--rows", "--batch", "--draft"),
        *("--most-waiting", "--limit", "--max-new-tokens", "--chat-template", "--no-chat-template", "--readout"),
        *("--dtype", "--device", "--max-memory", "--attention", "--revision", "--trust-remote-code", "--out"),
        *("--run-code", "--json", "--quiet"),
    },
    "findings": {"--out", "--json"},
    "report": {"--out", "--format", "--skip-corrupt", "--seed"},
    "check": {
        *("--all", "--dtype", "--device", "--max-memory", "--attention", "--revision", "--trust-remote-code"),
        *("--json", "--quiet"),
    },
    "profile": {
        *("--context", "--batches", "--repeats", "--dtype", "--device", "--max-memory", "--attention", "--revision"),
        *("--trust-remote-code", "--out", "--json", "--quiet"),
    },
    "maxskip": {
        *("--tasks", "--include-path", "--depths", "--state", "--metric", "--limit", "--num-fewshot", "--batch"),
        *("--chat-template", "--no-chat-template", "--seed", "--dtype", "--device", "--max-memory", "--attention"),
        *("--revision", "--trust-remote-code", "--json", "--quiet"),
    },
    "study": {"--out", "--dry-run", "--retry-failed", "--json", "--quiet"},
    "lm-eval": set(),
    "list": {"--json"},
}


def contents(folder):
    """Name -> bytes of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_refused(outcome, *words):
    """Exit code 2, nothing on standard output, one line that starts with "error:" and holds `words`."""
    assert (outcome.code, outcome.out) == (2, ""), outcome
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: "), line
    for word in words:
        assert word in line, (word, line)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a toy model, prompts, and a finished run on them."""
    folder = tmp_path_factory.mktemp("cli")
    torch.set_num_threads(1)
    save_toy(folder / "toy")
    categories = ("chat", "maths", "code")
    rows = [
        {"id": f"p{i}", "category": categories[i % 3], "prompt": f"Question number {i}?"} for i in range(NUM_PROMPTS)
    ]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    outcome = exitbench(*run_arguments(folder), "--out", folder / "finished", "--json")
    assert outcome.code == 0, outcome
    (folder / "stdout.json").write_text(outcome.out)
    return folder


def run_arguments(place, command="run", model="toy"):
    return (command, place / model, "--workload", place / "prompts.jsonl", "--max-new-tokens", "6", "--quiet")


def lens_arguments(place):
    workload = ("--workload", "mini", "--tokens", "2000", "--learning-rate", "0.01")
    return ("lens", place / "toy", *workload, "--out", "lens.safetensors", "--quiet")


@pytest.fixture
def finished(place, tmp_path):
    """A copy of the finished run, to be damaged."""
    return Path(shutil.copytree(place / "finished", tmp_path / "finished"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A working folder of the test's own."""
    monkeypatch.chdir(tmp_path)


# What works.


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


def test_fast_and_full_do_not_mix(place, finished):
    """Samples with and without signals in one trace."""
    before = contents(finished)
    outcome = exitbench(*run_arguments(place, "trace"), "--fast", "--out", finished / "trace")
    assert_refused(outcome, "settings.recorded (signals there, decisions now)", "another --out")
    assert contents(finished) == before


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


def test_list_says_which_signals_are_optional():
    """An optional signal that nobody finds, or that everybody expects in every trace."""
    rows = {row["name"]: row["recorded"] for row in json.loads(exitbench("list", "signals", "--json").out)}
    assert (rows["entropy"], rows["kl_prev"]) == ("by default", "with --also")


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
    options = ("--workload", tmp_path / "many.jsonl", "--max-new-tokens", "2", "--quiet", "--out", tmp_path / "out")
    outcome = exitbench("run", place / "toy", *options, "--precision", "0.3", "--json")
    assert outcome.code == 0, outcome
    card = json.loads(outcome.out)
    assert (card["n_prompts"], card["precision"]["n_available"], card["precision"]["reached"]) == (32, 64, True)
    assert json.loads(exitbench("score", tmp_path / "out", "--json").out) == card
    shown = " ".join(exitbench("score", tmp_path / "out").out.split())
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


def test_lens_is_trained_and_read_through(place, tmp_path):
    """A lens that --readout cannot use, one that learns nothing, or results of it in the folder of the plain ones."""
    outcome = exitbench(*lens_arguments(place), "--json")
    assert (outcome.code, outcome.err) == (0, ""), outcome
    trained = json.loads(outcome.out)
    assert trained["path"] == str(tmp_path / "lens.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["lens.safetensors"]
    assert trained["kl_logit"]["depth"] == [0, 1, 2, 3, 4]
    assert trained["kl_logit"]["value"][-1] == trained["kl_tuned"]["value"][-1] == 0
    assert sum(trained["kl_tuned"]["value"]) < sum(trained["kl_logit"]["value"])
    assert trained["n_documents"] == 17
    assert all(
        low < high for low, high in zip(trained["kl_tuned"]["low"][:-1], trained["kl_tuned"]["high"], strict=False)
    )
    run = exitbench(*run_arguments(place), "--readout", "tuned:lens.safetensors", "--json")
    assert run.code == 0, run
    card = json.loads(run.out)
    assert card["settings"]["readout"] == trained["name"]
    assert card["ees"] != json.loads((place / "finished/score.json").read_text())["ees"]
    (folder,) = (tmp_path / "exitbench-out").iterdir()
    assert "tuned" in folder.name


def test_lens_tells_people_what_it_learnt(place, tmp_path):
    """A table without a depth, or a file that nobody finds; one that is trained over."""
    outcome = exitbench(*lens_arguments(place))
    assert (outcome.code, outcome.err) == (0, ""), outcome
    assert f"lens: {tmp_path / 'lens.safetensors'}" in outcome.out
    assert "nats" in outcome.out
    before = (tmp_path / "lens.safetensors").read_bytes()
    assert_refused(exitbench(*lens_arguments(place)), "lens.safetensors exists", "--out")
    assert (tmp_path / "lens.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--tokens", "0"), ("--tokens is 0",)),
        (("--learning-rate", "0"), ("--learning-rate is 0.0", "0.001")),
        (("--learning-rate", "nan"), ("--learning-rate is nan",)),
        (("--out", "lens.pt"), ("lens.pt", ".safetensors")),
        (("--workload", "minni"), ("unknown workload 'minni'",)),
    ],
)
def test_wrong_option_of_a_lens_is_refused(place, tmp_path, options, words):
    """A mistake found out after the training, or a file left behind."""
    assert_refused(exitbench(*lens_arguments(place), *options), *words)
    assert list(tmp_path.iterdir()) == []


def test_score_of_a_run_or_its_trace_is_the_saved_one(place):
    """A score that depends on which folder is named, or on when it is computed."""
    saved = json.loads((place / "finished" / "score.json").read_text())
    for folder in (place / "finished", place / "finished" / "trace"):
        outcome = exitbench("score", folder, "--json")
        assert (outcome.code, outcome.err) == (0, "")
        assert json.loads(outcome.out) == saved
    several = json.loads(exitbench("score", place / "finished", place / "finished", "--json").out)
    assert several == [saved, saved]
    assert saved["verdict"][:8] in exitbench("score", place / "finished").out


def test_seed_changes_intervals_and_nothing_else(place):
    """A seed that is ignored, or one that moves a point estimate."""
    saved = json.loads((place / "finished" / "score.json").read_text())
    other = json.loads(exitbench("score", place / "finished", "--seed", "1", "--json").out)
    assert other["seed"] == 1
    assert other["ees"]["value"] == saved["ees"]["value"]
    assert other["entropy"]["low"] != saved["entropy"]["low"]


def test_report_on_folders_and_saved_scores(place, tmp_path):
    """A report that needs a trace where a saved score is given, or fetches something from elsewhere."""
    finished = place / "finished"
    outcome = exitbench("report", finished, finished / "score.json", "--out", tmp_path / "page.html")
    assert (outcome.code, outcome.out) == (0, f"{tmp_path / 'page.html'}\n")
    page = (tmp_path / "page.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert page.count("EES 0.") >= 2
    assert exitbench("report", finished, finished, "--format", "svg", "--out", tmp_path / "pictures").code == 0
    pictures = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert {"batches.svg", "policies-flops.svg"} < pictures
    charts = (tmp_path / "page.html").read_text().count('data-spec="r0-')
    assert sum(name.startswith("result-1-") for name in pictures) == charts
    assert not any(name.startswith("result-2-") for name in pictures), "one folder given twice is one result"


def test_many_results_are_not_shown_each_in_full(place, tmp_path, monkeypatch):
    """A page that grows with every result until nobody can open it; or one without the tokens it has room for."""
    monkeypatch.setattr("exitbench.api.reading.MOST_IN_FULL", 1)
    finished = place / "finished"
    assert exitbench("report", finished, finished / "score.json", "--out", tmp_path / "page.html").code == 0
    page = (tmp_path / "page.html").read_text()
    assert 'data-spec="study-models"' in page
    assert 'data-payload="explored-0-tokens"' in page
    assert 'id="r0"' not in page


def test_report_on_studies_beside_runs(place, tmp_path):
    """A run left out beside a study, its tokens or policies lost, or a cell that failed not told by the exit code."""
    write_rows(tmp_path / "s" / "cells" / "a.parquet", cell_rows(cell="a", model="of the study"))
    finished = place / "finished"
    outcome = exitbench("report", tmp_path / "s", finished, "--out", tmp_path / "both.html")
    assert (outcome.code, outcome.out) == (0, f"{tmp_path / 'both.html'}\n")
    page = (tmp_path / "both.html").read_text()
    assert "of the study" in page
    assert 'data-payload="explored-0-tokens"' in page
    assert 'data-spec="study-policies"' in page
    assert exitbench("report", tmp_path / "s", finished, "--format", "parquet").code == 0
    rows = rows_of_file(tmp_path / "report.parquet")
    assert {row.study for row in rows} == {"example", "run"}
    assert exitbench("report", finished, "--format", "md").code == 0
    assert "## Every cell" in (tmp_path / "report.md").read_text()
    assert exitbench("report", tmp_path / "s", "--format", "svg").code == 0
    drawn = ("bits_per_character", "ees", "ees_star")
    pictures = sorted(file.name for file in (tmp_path / "report-figures").iterdir())
    assert pictures == ["decided-curves.svg", *(f"models-{figure}.svg" for figure in drawn)]
    write_rows(tmp_path / "t" / "cells" / "a.parquet", [replace(next(r for r in rows if r.study == "run"), value=0.5)])
    outcome = exitbench("report", tmp_path / "t", finished, "--format", "csv")
    assert_refused(outcome, "two rows of one identity with different numbers")
    write_rows(tmp_path / "s" / "cells" / "b.parquet", [failed("out of memory", cell="b", model="big")])
    outcome = exitbench("report", tmp_path / "s", finished, "--format", "csv")
    assert outcome.code == 1
    assert "1 cells failed" in outcome.err


def test_run_replays_and_report_reads_it(place, tmp_path):
    """A replay that is made and not shown, made of other prompts, or lost when the folder is reported on again."""
    folder = place / "finished"
    saved = Replay.from_json(json.loads((folder / "replay.json").read_text()))
    assert (saved.n_prompts, saved.command[:14]) == (NUM_PROMPTS, "exitbench run ")
    assert {p.policy for p in saved.points} >= {"top1-prob", "margin", "gate", "best by blocks"}
    chapter = 'class="chapter policies"'
    assert chapter in (folder / "report.html").read_text()
    assert "### Exit policies" in (folder / "card.md").read_text()
    assert exitbench("report", folder, "--out", tmp_path / "again.html").code == 0
    assert chapter in (tmp_path / "again.html").read_text()
    assert exitbench("report", folder / "trace", "--out", tmp_path / "trace.html").code == 0
    assert chapter not in (tmp_path / "trace.html").read_text()


def test_run_says_why_it_replays_nothing(place, tmp_path):
    """A run of few prompts that fails after tracing, or leaves policies out in silence."""
    outcome = exitbench(*run_arguments(place)[:-1], "--limit", "3", "--out", tmp_path / "few")
    assert outcome.code == 0, outcome
    assert "cross-fitting needs at least 10 prompts, the trace has 3" in " ".join(outcome.err.split())
    assert not (tmp_path / "few" / "replay.json").exists()


def test_replay_of_another_trace_is_refused(finished, place, tmp_path):
    """Policies of one measurement reported under the figures of another."""
    file = finished / "replay.json"
    other = json.loads(file.read_text())
    for broken, words in (
        (other | {"n_tokens": 5}, "is of another trace"),
        (other | {"schema_version": 99}, "schema version"),
        ("no replay", "schema version"),
    ):
        file.write_text(json.dumps(broken))
        assert_refused(exitbench("report", finished, "--out", tmp_path / "page.html"), "replay.json", words)
    file.write_text("{")
    assert_refused(exitbench("report", finished, "--out", tmp_path / "page.html"), "replay.json is no JSON")


QUICK = ("--policy", "margin", "--policy", "fixed-depth", "--quiet")


def test_replay_compares_policies(place, tmp_path):
    """A comparison without the plain threshold, JSON that cannot be read back, or a CSV of other rows."""
    file = tmp_path / "rows.csv"
    outcome = exitbench("replay", place / "finished", *QUICK, "--probes", "every-2", "--json", "--out", file)
    assert (outcome.code, outcome.err) == (0, "")
    made = Replay.from_json(json.loads(outcome.out))
    assert made.command.startswith("exitbench replay ")
    by_probes = {(p.policy, p.probes) for p in made.points}
    assert by_probes >= {("top1-prob", "every"), ("margin", "every-2"), ("fixed-depth", "every")}
    assert ("margin", "every") not in by_probes
    assert len(file.read_text().splitlines()) == 1 + len(made.points)
    shown = exitbench("replay", place / "finished" / "trace", *QUICK).out
    assert "at most 5 % of tokens changed (bootstrap)" in shown
    assert "certificate at 1 %" in shown


def test_replay_options_reach_the_replay(place):
    """An option that is parsed and dropped."""
    options = ("--eps", "0.2", "--procedure", "bonferroni", "--delta", "0.3", "--batch", "4", "--context", "64")
    options += ("--seed", "5", "--category", "chat", "--category", "maths", "--category", "code")
    outcome = exitbench("replay", place / "finished", *QUICK, *options, "--profile", "h100-sxm", "--json")
    assert outcome.code == 0, outcome
    made = json.loads(outcome.out)
    assert (made["batch"], made["context"], made["seed"]) == (4, 64, 5)
    assert {(p["eps"], p["procedure"], p["delta"]) for p in made["points"]} == {(0.2, "bonferroni", 0.3)}
    assert made["categories"] == ["chat", "maths", "code"]
    assert made["profile"]


def test_saved_policies_are_read_back(place, tmp_path):
    """A file that --policy refuses, or whose threshold decides on the prompts that chose it."""
    folder = tmp_path / "policies"
    chosen = ("--policy", "gate", "--policy", "margin", "--probes", "learned-2", "--procedure", "bootstrap", "--quiet")
    outcome = exitbench("replay", place / "finished", *chosen, "--save-policies", folder, "--json")
    assert outcome.code == 0, outcome
    files = sorted(folder.glob("*.json"))
    assert [file.name for file in files] == [
        f"{name}_learned-2_bootstrap_token_{eps}.json" for name in ("gate", "margin") for eps in ("0.01", "0.05")
    ]
    arguments = [word for file in files for word in ("--policy", file)]
    again = exitbench("replay", place / "finished", *arguments, "--quiet", "--json")
    assert again.code == 0, again
    rows = [(p["policy"], p["eps"]) for p in json.loads(again.out)["points"] if p["procedure"] == "bootstrap"]
    assert rows.count(("gate", 0.05)) == rows.count(("margin", 0.05)) == 1
    gate = json.loads(files[0].read_text())
    files[0].write_text(json.dumps(gate | {"fitted_on": "f" * 64}))
    refused = exitbench("replay", place / "finished", "--policy", files[0], "--quiet")
    assert_refused(refused, "policy 'gate' was fitted on a model with weights ffffffffffff")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--policy", "margn"), ("unknown policy 'margn'", "did you mean 'margin'")),
        (("--policy", "nowhere.json"), ("cannot read policy nowhere.json",)),
        (("--policy", "margin", "--probes", "2,99"), ("probe depth 99", "give depths from 1 to 3")),
        (("--policy", "margin", "--probes", "some"), ("--probes is 'some'", "learned-3")),
        (("--policy", "kl-prev"), ("looks at kl_prev, which the trace lacks", "exitbench trace", "--also kl_prev")),
        (("--eps", "0"), ("--eps is 0", "0.05")),
        (("--eps", "1.5"), ("--eps is 1.5",)),
        (("--delta", "1"), ("--delta is 1",)),
        (("--procedure", "hope"), ("--procedure is 'hope'", "fixed-sequence")),
        (("--risk", "answer"), ("--risk answer needs a certificate",)),
        (("--category", "poems"), ("no token of the categories poems", "chat, maths, code")),
        (("--category", "chat"), ("at least 10 prompts, the trace has 4",)),
        (("--profile", "abacus"), ("unknown profile 'abacus'",)),
        (("--batch", "0"), ("--batch", "exitbench replay --help")),
    ],
)
def test_wrong_option_of_a_replay_is_refused(place, tmp_path, options, words):
    """A mistake that costs a traceback, or a figure for something else than was asked."""
    file = tmp_path / "rows.csv"
    assert_refused(exitbench("replay", place / "finished", *options, "--quiet", "--out", file), *words)
    assert not file.exists()


def test_fast_trace_cannot_be_replayed(place, tmp_path):
    """A fast run that fails where policies would come, or a replay of nothing."""
    assert exitbench(*run_arguments(place), "--fast", "--out", tmp_path / "fast").code == 0
    assert not (tmp_path / "fast" / "replay.json").exists()
    assert_refused(exitbench("replay", tmp_path / "fast"), "made with --fast", "trace again without it")


def test_list_policies_says_what_each_needs():
    """An oracle listed as something that can be run, or a policy without its source."""
    rows = {row["name"]: row for row in json.loads(exitbench("list", "policies", "--json").out)}
    assert rows["oracle-stable"]["state"] == "replay only"
    assert (rows["hidden-cosine"]["readout"], rows["margin"]["readout"]) == ("no", "yes")
    assert (rows["gate"]["trained"], rows["margin"]["signals"]) == ("yes", "margin")
    assert "arXiv 2207.07061" in rows["calm-decay"]["criterion"]
    assert "Source: softmax thresholds go back to BranchyNet" in rows["top1-prob"]["criterion"]


def decode_arguments(place, *policy):
    prompts = ("--workload", place / "prompts.jsonl", "--max-new-tokens", "6", "--limit", "10")
    return ("decode", place / "toy", *prompts, "--policy", *(policy or ("fixed-depth", "--threshold", "2")), "--quiet")


def test_decode_compares_with_the_full_model(place, tmp_path):
    """Times that are swapped; a lossless answer that is another; a folder that is not resumed."""
    command = (*decode_arguments(place), "--state", "lossless", "--out", tmp_path / "out", "--json")
    outcome = exitbench(*command)
    assert outcome.code == 0, outcome
    result = json.loads(outcome.out)
    assert result["n_prompts"] == 10
    ratio = result["exit_ms_per_token"]["value"] / result["full_ms_per_token"]["value"]
    assert result["time_ratio"]["value"] == pytest.approx(ratio)
    assert result["time_ratio"]["low"] <= ratio <= result["time_ratio"]["high"]
    lines = [json.loads(line) for line in (tmp_path / "out" / "batches.jsonl").read_text().splitlines()]
    assert [turn["ids"] for line in lines for turn in line["turns"]] == [
        turn["full_ids"] for line in lines for turn in line["turns"]
    ]
    before = contents(tmp_path / "out")
    assert json.loads(exitbench(*command).out)["time_ratio"] == result["time_ratio"]
    assert contents(tmp_path / "out") == before


def test_decode_tells_people_whether_it_pays(place, tmp_path):
    """A table without the sentence; a saved policy that is not read; missing figures without a reason."""
    policy = ("top1-prob", "--probes", "2", "--threshold", "0.5")
    shown = exitbench(*decode_arguments(place, *policy), "--out", tmp_path / "a")
    assert "times as long a token" in shown.out, shown
    assert "top1-prob, threshold 0.5" in shown.out
    saved = tmp_path / "policy.json"
    saved.write_text(json.dumps({"policy": "top1-prob", "threshold": 0.5, "schedule": {"depths": [2]}}))
    outcome = exitbench(*decode_arguments(place, saved), "--out", tmp_path / "b", "--json")
    result = json.loads(outcome.out)
    assert result["accepted"] is None
    assert "lossless" in result["accepted_reason"]
    answers = [(tmp_path / name / "batches.jsonl").read_text().splitlines() for name in "ab"]
    assert [json.loads(a)["turns"] for a in answers[0]] == [json.loads(b)["turns"] for b in answers[1]]


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (("oracle-stable",), ("looks into the future",)),
        (("top1-prob",), ("--threshold", "save-policies")),
        (("gate", "--threshold", "0.5"), ("fitted",)),
        (("fixed-depth", "--threshold", "9"), ("threshold 9", "1 to 3")),
        (("no-such",), ("unknown policy", "no-such")),
        (("missing.json",), ("missing.json",)),
        (("margin", "--threshold", "0.5", "--probes", "9"), ("9",)),
        (("fixed-depth", "--threshold", "2", "--batch", "0"), ("--batch",)),
        (("fixed-depth", "--threshold", "2", "--readout", "tuned:none"), ("none",)),
        (("fixed-depth", "--threshold", "2", "--workload", "no-such"), ("no-such",)),
    ],
)
def test_what_cannot_be_decoded_is_refused(place, tmp_path, policy, words):
    """A stack trace, or a folder begun for nothing."""
    assert_refused(exitbench(*decode_arguments(place, *policy), "--out", tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()


def test_check_shows_the_proof(place):
    """A check that hides a failure behind exit code 0, or prints another form than documented."""
    outcome = exitbench("check", place / "toy", "--json", "--quiet")
    document = json.loads(outcome.out)
    assert (outcome.code, outcome.err) == (0, "")
    assert document["paths"]["blocks"] == [f"model.layers.{i}" for i in range(4)]
    assert [row["name"] for row in document["checks"]] == ["readout", "chain", "cache", "padding"]
    assert all(row["passed"] and row["error"] <= row["tolerance"] for row in document["checks"])
    assert "model.layers" in exitbench("check", place / "toy", "--quiet").out


def test_check_of_a_broken_view_fails(place):
    """A failed proof that exits with 0."""
    with patch("exitbench.models.validate.SLACK", -1.0):
        assert exitbench("check", place / "toy", "--quiet").code == 1
        refused = exitbench(*run_arguments(place), "--out", place / "never")
    assert_refused(refused, "LlamaForCausalLM is refused", "exitbench check")
    assert not (place / "never").exists()


def test_check_all_prints_the_matrix(monkeypatch):
    """A type that fails for no known reason behind exit code 0, or rows in another form than documented."""
    monkeypatch.setattr("exitbench.matrix.causal_model_types", lambda: ("llama", "xlnet"))
    outcome = exitbench("check", "--all", "--json", "--quiet")
    passed, failed = json.loads(outcome.out)
    assert (outcome.code, outcome.err) == (0, "")
    assert (passed["model_type"], passed["passed"], passed["reason"]) == ("llama", True, None)
    assert (passed["decode"], passed["lossless"], passed["decode_reason"]) == (True, True, None)
    assert (failed["model_type"], failed["passed"], failed["decode"]) == ("xlnet", False, None)
    assert "sees tokens to its right" in failed["reason"]
    assert "1 of 2 types pass, 1 can be decoded" in exitbench("check", "--all", "--quiet").out
    monkeypatch.setattr("exitbench.matrix.UNSUPPORTED", {})
    assert exitbench("check", "--all", "--quiet").code == 1


QUICK_PROFILE = ("--context", "9", "--batches", "1,2", "--repeats", "1", "--quiet")


def test_profile_leaves_a_file_that_projects(place, tmp_path):
    """A profile printed and not kept, or kept as something else than what is printed."""
    file = tmp_path / "profile.json"
    outcome = exitbench("profile", place / "toy", *QUICK_PROFILE, "--out", file, "--json")
    assert outcome.code == 0, outcome
    printed = json.loads(outcome.out)
    assert printed == json.loads(file.read_text())
    assert printed["source"].startswith("exitbench profile ")
    assert load_profile(str(file)).context == 9


def test_profile_names_its_file(place, tmp_path, monkeypatch):
    """A profile that nobody finds."""
    monkeypatch.chdir(tmp_path)
    outcome = exitbench("profile", place / "toy", *QUICK_PROFILE)
    assert (tmp_path / "exitbench-out" / "profile-toy.json").is_file()
    assert "4 blocks" in outcome.out
    assert "exitbench-out/profile-toy.json" in outcome.out


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--batches", "1,two"), "--batches is '1,two', expected whole numbers with commas between"),
        (("--batches", "4,2"), "--batches is '4,2', expected rising numbers from 1"),
        (("--context", "1"), "--context is 1, expected at least 2"),
        (("--repeats", "0"), "--repeats is 0"),
        (("--context", "5000"), "toy knows 2048"),
    ],
)
def test_profile_of_what_cannot_be_timed(place, tmp_path, options, word):
    """A traceback after minutes of loading, or a file without times."""
    file = tmp_path / "profile.json"
    assert_refused(exitbench("profile", place / "toy", *options, "--quiet", "--out", file), word)
    assert not file.exists()


def test_check_shows_the_anatomy(place):
    """Blocks whose kinds and costs are counted and not shown."""
    document = json.loads(exitbench("check", place / "toy", "--json", "--quiet").out)
    assert [block["mixers"] for block in document["shape"]["blocks"]] == [["full attention"]] * 4
    shown = exitbench("check", place / "toy", "--quiet").out
    assert "1-4" in shown
    assert "full attention" in shown


@pytest.mark.parametrize(
    ("kind", "name"),
    [("models", "smollm2-135m-instruct"), ("workloads", "mini"), ("signals", "top1_id"), ("policies", "top1-prob")],
)
def test_list(kind, name):
    """A registry that the command line cannot show."""
    outcome = exitbench("list", kind, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert name in [row["name"] for row in json.loads(outcome.out)]
    assert name in exitbench("list", kind).out


def test_list_models_shows_the_catalogue_too():
    """Names cut short in a narrow terminal or a pipe, or doubtful facts that look like all others."""
    shown = exitbench("list", "models").out
    assert "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T" in shown
    assert "46.7 / 12.9" in shown
    assert "2019-02?" in shown
    rows = json.loads(exitbench("list", "models", "--json").out)
    assert {row["list"] for row in rows} == {"pinned", "catalogue"}
    gpt2 = next(row for row in rows if row["name"] == "openai-community/gpt2")
    assert (gpt2["release_month"], gpt2["unverified"], gpt2["twin_group"]) == ("2019-02", ["release_month"], None)


def test_findings_are_judged_together(tmp_path):
    """Each study's claim at its own 5 %, an account that is not written, or figures on the wrong stream."""
    folders = []
    for name in ("kinds", "again"):
        folders.append(tmp_path / name)
        shifted = 0.0 if name == "kinds" else 0.1
        rows = [
            model_row(f"{kind}-{i}", mean + 0.004 * i + shifted, kind=kind, source=f"{name}/{kind}-{i}")
            for kind, mean in (("dense", 0.3), ("moe", 0.2))
            for i in range(3)
        ]
        write_rows(folders[-1] / "cells" / "all.parquet", rows)
        section = "{question: kinds, claim: dense keeps more, against: [moe], smallest_effect: 0.02, cluster: null}"
        spec = f"name: {name}\nworkloads: [text.txt]\nmodels: [a]\nfinding: {section}\n"
        (folders[-1] / "spec.yaml").write_text(spec, encoding="utf-8")
    found = json.loads(exitbench("findings", *folders, "--json").out)
    assert [(finding["study"], finding["verdict"], finding["n_together"]) for finding in found] == [
        ("kinds", "supported", 2),
        ("again", "supported", 2),
    ]
    assert found[0]["command"] == f"exitbench findings {folders[0]} {folders[1]} --json"
    shown = exitbench("findings", folders[0], "--out", tmp_path / "finding.md")
    assert "dense keeps more" in shown.out
    assert (tmp_path / "finding.md").read_text(encoding="utf-8").startswith("# Findings")
    assert_refused(exitbench("findings", tmp_path), "is no study", "spec.yaml")
    advice = "it is a folder, give the name of a file in it"
    assert_refused(exitbench("findings", folders[0], "--out", tmp_path), "cannot write", advice)
    own = api.write_finding(folders[1], command="exitbench study again.yaml")
    assert json.loads((folders[1] / "finding.json").read_text(encoding="utf-8")) == own.to_json()
    assert (own.n_together, own.command) == (1, "exitbench study again.yaml")
    assert "**supported**" in (folders[1] / "finding.md").read_text(encoding="utf-8")


def test_options_are_frozen():
    """An option that appears, disappears or is renamed without anybody deciding so."""
    commands = typer.main.get_command(app).commands
    found = {
        name: {flag for p in command.params for flag in (*p.opts, *p.secondary_opts) if flag.startswith("--")}
        for name, command in commands.items()
    }
    assert {name: flags - {"--help"} for name, flags in found.items()} == OPTIONS


def test_help_and_version():
    """No arguments that end in an error instead of the help."""
    assert exitbench().out == exitbench("--help").out != ""
    assert exitbench("--version").out == f"{__version__}\n"


def test_python_m_exitbench():
    """A package that cannot be run as a module, or loses exit codes on the way."""

    def run(*arguments):
        return subprocess.run([sys.executable, "-m", "exitbench", *arguments], capture_output=True, text=True)

    assert run("--version").stdout == f"{__version__}\n"
    failed = run("score", "nowhere")
    assert_refused(Outcome(code=failed.returncode, out=failed.stdout, err=failed.stderr), "nowhere holds no result")


# What does not.


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


def test_encoder_is_refused(tmp_path):
    """A BERT scored as if it generated from left to right."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertForMaskedLM(BertConfig(vocab_size=259, **sizes)).save_pretrained(tmp_path / "bert")
    byte_tokenizer().save_pretrained(tmp_path / "bert")
    assert_refused(exitbench("check", tmp_path / "bert", "--quiet"), "not a causal language model")


def test_other_identity_is_refused_and_left_alone(place, finished):
    """Rows of two measurements mixed in one folder, or the older one overwritten."""
    before = contents(finished)
    outcome = exitbench(*run_arguments(place), "--max-new-tokens", "7", "--out", finished)
    assert_refused(outcome, "another trace", "max_new_tokens (6 there, 7 now)", "--out")
    assert contents(finished) == before


def test_foreign_folder_is_refused(place, tmp_path):
    """A trace written among somebody's own files."""
    (tmp_path / "thesis.tex").write_text("dear")
    assert_refused(exitbench(*run_arguments(place, "trace"), "--out", tmp_path), "holds no trace", "--out")
    assert (tmp_path / "thesis.tex").exists()


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
        outcome = exitbench(*run_arguments(place), "--out", tmp_path / "out")
    assert_refused(outcome, "cannot write", "No space left on device", "free some space")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.endswith(".tmp")]
    assert len(list((tmp_path / "out" / "trace").glob("part-*.parquet"))) == 3
    assert exitbench(*run_arguments(place), "--out", tmp_path / "out").code == 0
    for part in (place / "finished" / "trace").glob("part-*.parquet"):
        assert (tmp_path / "out" / "trace" / part.name).read_bytes() == part.read_bytes()


@pytest.mark.parametrize("content", ["{}", "[]", "not JSON", '{"schema_version": 1}', '{"schema_version": 99}'])
def test_report_on_what_is_no_result_is_refused(tmp_path, content):
    """Any JSON file taken for a score, or a report written about nothing."""
    (tmp_path / "score.json").write_text(content)
    assert_refused(exitbench("report", tmp_path / "score.json", "--out", tmp_path / "page.html"))
    assert_refused(exitbench("report", tmp_path, "--out", tmp_path / "page.html"), "holds no result")
    assert not (tmp_path / "page.html").exists()


def test_report_that_cannot_be_written_is_refused(place, tmp_path):
    """A report into a place that is no folder: a traceback after all the work."""
    (tmp_path / "file").write_text("")
    assert_refused(exitbench("report", place / "finished", "--out", tmp_path / "file" / "page.html"), "cannot write")


def test_manifest_of_another_schema_is_refused(finished):
    """A trace of a later version read as if it were of this one."""
    manifest = finished / "trace" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema_version": 3', '"schema_version": 4'))
    assert_refused(exitbench("score", finished), "schema version 4", "upgrade")


def test_terminal_escapes_of_a_sample_id_stay_in_the_file(place, tmp_path):
    """A prompt file that renames the reader's terminal or colours its prompt."""
    row = {"id": "\x1b]0;pwn\x07\x1b[31mX", "prompt": "word " * 3000}
    (tmp_path / "hostile.jsonl").write_text(json.dumps(row) + "\n")
    outcome = exitbench("trace", place / "toy", "--workload", tmp_path / "hostile.jsonl", "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "\x1b" not in outcome.err.replace("\x1b[0m", "")


def test_score_uses_the_seed_of_the_run(place, tmp_path):
    """Two different scores of one run: the one saved with --seed 3, and the one of 'exitbench score' on its folder."""
    saved = json.loads(exitbench(*run_arguments(place), "--seed", "3", "--out", tmp_path / "out", "--json").out)
    scored = json.loads(exitbench("score", tmp_path / "out", "--json").out)
    assert scored == saved
    assert json.loads(exitbench("score", tmp_path / "out", "--seed", "0", "--json").out) != saved


def test_failed_sample_is_named_without_its_escapes(capsys):
    """A failed sample whose id sets the terminal's title."""
    sample = SampleInfo(id="\x1b]0;pwn\x07\x1b[31mX", category="all", turns=("hi",))
    failed = SimpleNamespace(failures=(Failure(sample_id=sample.id, reason="r"),), samples=(sample,))
    with pytest.raises(typer.Exit):
        fail_if_samples_failed(failed)
    assert capsys.readouterr().err == "1 of 1 samples failed; first: X: r\n"


def test_report_on_a_study(tmp_path, place):
    """A study's folder taken for a trace's, failed cells that go unnoticed, or two kinds of result in one page."""
    write_rows(tmp_path / "study" / "cells" / "a.parquet", [row(cell="a"), row("decided", 0.5, cell="a", depth=1)])
    page = tmp_path / "page.html"
    outcome = exitbench("report", tmp_path / "study", "--out", page)
    assert (outcome.code, outcome.out) == (0, f"{page}\n")
    assert "Every cell" in page.read_text()
    write_rows(tmp_path / "study" / "cells" / "b.parquet", [failed("out of memory", cell="b")])
    outcome = exitbench("report", tmp_path / "study", "--out", page)
    assert (outcome.code, outcome.out) == (1, f"{page}\n")
    assert "1 cells failed" in outcome.err
