"""The examples and the notebook run, offline, from start to end."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from exitbench.api import TraceOptions, load_workload, trace
from exitbench.models.toy import save_toy
from scripts import said_by

EXAMPLES = Path(__file__).parents[1] / "examples"
OFFLINE = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """What an example prints, without a network, in a folder of its own."""

    def refuse(*arguments, **keywords):
        raise AssertionError("an example tried to use the network")

    def said(name, *arguments):
        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "connect", refuse)
            return said_by(EXAMPLES / name, *arguments)

    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)  # toys are too small for more, and tests share the cores
    return said


def test_add_a_policy(run):
    """An example that the code has left behind; the new policy missing from the table."""
    rows = [line.split() for line in run("add_a_policy.py").splitlines()]
    for policy in ("top1-prob", "sure-twice"):
        savings = [row[2] for row in rows if row[:2] == [policy, "every"] and re.fullmatch(r"-?\d\.\d+", row[2])]
        assert len(savings) == 2, policy


def test_add_a_policy_on_a_trace(run, tmp_path):
    """A trace that was given and not used."""
    folder = tmp_path / "trace"
    model = str(save_toy(tmp_path / "other", num_blocks=3))
    traced = trace(model, load_workload("mini").limited(12), out=folder, options=TraceOptions(max_new_tokens=2))
    assert f"other on mini: {traced.num_tokens} tokens, 12 prompts" in run("add_a_policy.py", folder)


def test_score_your_model(tmp_path):
    """An example that the code has left behind, or that runs in no process of its own; a report that is not written."""
    command = [sys.executable, str(EXAMPLES / "score_your_model.py"), "--prompts", "12"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=OFFLINE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"^ees +0\.\d+ \[0\.\d+, 0\.\d+\]$", done.stdout, re.MULTILINE), done.stdout
    assert (tmp_path / re.search(r"open (\S+)", done.stdout)[1]).is_file()


def test_score_a_model_that_is_named(run, tmp_path):
    """A model that was given and not used, or one that is refused since another was scored there before."""
    run("score_your_model.py", "--prompts", 2)
    model = save_toy(tmp_path / "other", num_blocks=3)
    said = run("score_your_model.py", model, "--prompts", 2)
    assert "[no interval: 2 prompts]" in said
    assert '"other"' in (tmp_path / "exitbench-out/minute/other-2/score.json").read_text(encoding="utf-8")


def test_compare_two_models(run):
    """A difference that is not that of the two figures beside it, or has no interval."""
    said = run("compare_two_models.py", "--prompts", 12)
    first, second, apart, low, high = map(float, re.findall(r"-?\d\.\d{3}", re.sub(r"(EES \S+) \[.*\]", r"\1", said)))
    assert apart == pytest.approx(first - second, abs=2e-3)
    assert low <= apart <= high


def test_a_model_does_not_differ_from_itself(run, tmp_path):
    """Resamples that draw other prompts for the second model: a width where there is nothing to tell apart."""
    model = save_toy(tmp_path / "toy", num_blocks=3)
    said = run("compare_two_models.py", model, model, "--prompts", 12)
    assert "difference: 0.000 [0.000, 0.000], 12 prompts" in said


def test_compare_takes_two_models(run, capsys):
    """A third model that is left out in silence."""
    with pytest.raises(SystemExit, match="2"):
        run("compare_two_models.py", "a", "b", "c")
    assert "expected two models, got 3" in capsys.readouterr().err


NOTEBOOK = EXAMPLES / "first_look.ipynb"


def test_the_notebook_is_kept_without_outputs():
    """Outputs that were computed by another version, and a change of many lines for each run."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    ran = [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
    assert ran == []


@pytest.mark.slow  # all of it, in a kernel of its own
def test_the_notebook_runs(monkeypatch):
    """A notebook that the code has left behind."""
    nbclient = pytest.importorskip("nbclient", reason="pip install '.[docs]'")
    nbformat = pytest.importorskip("nbformat")
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    said = "".join(output.get("text", "") for output in outputs)
    assert re.search(r"^EES 0\.\d+ \[", said, re.MULTILINE)
    assert re.search(r"^margin bootstrap 0\.\d+ ", said, re.MULTILINE)
    assert any("image/png" in output.get("data", {}) for output in outputs)
