"""The command `study`: exit codes, what goes to which stream, and a dry run that writes nothing."""

import json

import pytest
import torch

from command_line import exitbench
from exitbench.errors import ReportError
from exitbench.study import attempt as attempt_module
from toy_study import CONTROL, make_place, rows_in, spec_of, write_spec


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    torch.set_num_threads(1)
    return make_place(tmp_path_factory.mktemp("command"), num_models=1)


ONE = {"models": ["toy-0"], "workloads": ["text.txt"]}


def test_a_study_and_its_summary(place, tmp_path):
    """Results that cannot be found, JSON with words before it, a command that rows do not tell."""
    spec, out = write_spec(place, spec_of(**ONE)), tmp_path / "out"
    dry = exitbench("study", spec, "--out", out, "--dry-run", "--json", "--quiet")
    assert (dry.code, dry.err, out.exists()) == (0, "", False)
    planned = json.loads(dry.out)
    assert (planned["cells"], planned["done"], planned["todo"]) == (1, 0, ["toy-0 on text (text)"])
    outcome = exitbench("study", spec, "--out", out, "--json", "--quiet")
    assert (outcome.code, outcome.err) == (0, "")
    summary = json.loads(outcome.out)
    assert (summary["cells"], summary["done"], summary["failed"], summary["measured"]) == (1, 1, [], 1)
    assert summary["overhead_share"] == pytest.approx(summary["overhead_s"] / summary["cells_s"])
    again = exitbench("study", spec, "--out", out)
    assert again.code == 0
    assert "1 of 1 cells done, 0 failed; 0 in this run" in again.out
    assert str(out) in again.out
    dry = exitbench("study", spec, "--out", out, "--dry-run", "--quiet")
    assert "1 cells: 1 done, 0 failed, 0 to do" in dry.out


def test_failed_cells(place, tmp_path, monkeypatch):
    """Success told of a study with failed cells, or no word of how to try them again."""
    spec, out = write_spec(place, spec_of(**ONE)), tmp_path / "out"
    measure = attempt_module.measure
    monkeypatch.setattr(attempt_module, "measure", lambda *_, **__: 1 / 0)
    for _ in range(2):  # the second one measures nothing, and is no success either
        outcome = exitbench("study", spec, "--out", out, "--quiet")
        assert outcome.code == 1
        assert "1 of 1 cells failed; first: toy-0 on text (text): unexpected ZeroDivisionError" in outcome.err
        assert "--retry-failed" in outcome.err
    dry = exitbench("study", spec, "--out", out, "--dry-run", "--quiet")
    assert (dry.code, "1 failed, 0 to do" in dry.out) == (0, True)
    monkeypatch.setattr(attempt_module, "measure", measure)
    assert exitbench("study", spec, "--out", out, "--quiet", "--retry-failed").code == 0
    assert {row["status"] for row in rows_in(out)} == {"ok", "missing"}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (spec_of(workload=[]), ("unknown key 'workload' in study; did you mean 'workloads'?",)),
        (spec_of(models=["toy-0"], workloads=["minni"]), ("did you mean 'mini'",)),
        (spec_of(name="../../x"), ("name",)),
        ("", ("study is empty",)),
        ("- a", ("study is a list",)),
        ("name: !!python/object/apply:os.system [ls]", ("a tag",)),
    ],
)
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_mistake_is_one_line(place, tmp_path, spec, words, dry):
    """A traceback, exit code 1, or a folder made, for a slip of the pen."""
    outcome = exitbench("study", write_spec(place, spec, "bad.yaml"), "--out", tmp_path / "out", *dry, "--quiet")
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: ")
    assert all(word in line for word in words), line
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """A spec of four toys, two of a size, and its place."""
    place = make_place(tmp_path_factory.mktemp("four"), num_models=4)
    models = [{"model": f"toy-{i}", "tags": {"size": ("large", "small")[i % 2]}} for i in range(4)]
    return write_spec(place, spec_of(models=models, workloads=["text.txt"], finding=CONTROL))


def test_a_study_that_was_stopped_is_not_judged_as_a_whole_one(four, tmp_path, monkeypatch):
    """A verdict on the half that was measured, from `findings` or from a study whose other half failed."""
    measure, out = attempt_module.measure, tmp_path / "out"

    def stopped(loaded, cell, *arguments, **options):
        if cell.model.label == "toy-2":
            raise KeyboardInterrupt
        return measure(loaded, cell, *arguments, **options)

    monkeypatch.setattr(attempt_module, "measure", stopped)
    assert exitbench("study", four, "--out", out, "--quiet").code != 0
    (found,) = json.loads(exitbench("findings", out, "--json").out)
    to_do = "2 of 4 models are not measured yet: toy-2, toy-3; run 'exitbench study' to the end"
    assert (found["verdict"], found["why"], found["n_models"]) == ("undecided", to_do, 2)
    monkeypatch.setattr(attempt_module, "measure", lambda *_, **__: 1 / 0)
    assert exitbench("study", four, "--out", out, "--quiet").code == 1
    found = json.loads((out / "finding.json").read_text())
    failed = "2 of 4 models failed: toy-2, toy-3; 'exitbench study --retry-failed' tries again"
    assert (found["verdict"], found["why"]) == ("undecided", failed)
    assert failed in (out / "finding.md").read_text()
    monkeypatch.setattr(attempt_module, "measure", measure)
    assert exitbench("study", four, "--out", out, "--quiet", "--retry-failed").code == 0
    found = json.loads((out / "finding.json").read_text())
    assert (found["n_models"], [model["left_out"] for model in found["models"]]) == (4, [None] * 4)
    assert not any("already" in caution or "not known" in caution for caution in found["cautions"])


def test_a_finding_that_cannot_be_judged_takes_nothing_away(four, tmp_path, monkeypatch):
    """Days of measuring without a page, or yesterday's verdict on it, since judging failed."""
    out = tmp_path / "out"
    assert exitbench("study", four, "--out", out, "--quiet").code == 0
    summary = json.loads(exitbench("study", four, "--out", out, "--quiet", "--json").out)
    assert summary["finding"]["verdict"] == json.loads((out / "finding.json").read_text())["verdict"]
    assert "finding" not in json.loads((out / "run.json").read_text())

    def torn(*_, **__):
        raise ReportError("texts differ")

    monkeypatch.setattr("exitbench.api.judging.judge_together", torn)
    (out / "index.html").unlink()
    outcome = exitbench("study", four, "--out", out, "--quiet")
    assert (outcome.code, outcome.err) == (2, "error: texts differ\n")
    left = sorted(path.name for path in out.iterdir())
    assert left == ["cells", "index.html", "plan.json", "run.json", "spec.yaml"]


def test_where_results_lie_if_nobody_says(place, tmp_path, monkeypatch):
    """Results beside the spec, or two studies in one default folder."""
    monkeypatch.chdir(tmp_path)
    assert exitbench("study", write_spec(place, spec_of(**ONE)), "--quiet").code == 0
    assert (tmp_path / "exitbench-out" / "study-toys" / "cells").is_dir()
