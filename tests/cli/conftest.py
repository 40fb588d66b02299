"""The command line as its users meet it: a toy, prompts, a finished run on them, and a folder to work in."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from command_line import NUM_PROMPTS, exitbench, run_arguments
from exitbench.models.toy import save_toy


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with a toy model, prompts, and a finished run on them; not to be changed."""
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


@pytest.fixture
def finished(place, tmp_path):
    """A copy of the finished run, to be damaged."""
    return Path(shutil.copytree(place / "finished", tmp_path / "finished"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A working folder of the test's own."""
    monkeypatch.chdir(tmp_path)
