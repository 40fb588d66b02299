"""The command `replay`, and replays in a run and its report."""

import json

import pytest

from command_line import NUM_PROMPTS, assert_refused, exitbench, run_arguments
from exitbench.replay.result import Replay


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
