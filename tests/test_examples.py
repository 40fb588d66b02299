"""The examples run, offline, from start to end."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from exitbench.api import TraceOptions, load_workload, trace
from exitbench.models.toy import save_toy

EXAMPLES = Path(__file__).parents[1] / "examples"
OFFLINE = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def run(name, *arguments):
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=OFFLINE)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_add_a_policy():
    """An example that the code has left behind; the new policy missing from the table."""
    rows = [line.split() for line in run("add_a_policy.py").splitlines()]
    for policy in ("top1-prob", "sure-twice"):
        savings = [row[2] for row in rows if row[:2] == [policy, "every"] and re.fullmatch(r"-?\d\.\d+", row[2])]
        assert len(savings) == 2, policy


def test_add_a_policy_on_a_trace(tmp_path):
    """A trace that was given and not used."""
    folder = tmp_path / "trace"
    model = str(save_toy(tmp_path / "other", num_blocks=3))
    traced = trace(model, load_workload("mini").limited(12), out=folder, options=TraceOptions(max_new_tokens=2))
    assert f"other on mini: {traced.num_tokens} tokens, 12 prompts" in run("add_a_policy.py", folder)


@pytest.mark.parametrize("name", ["add_a_policy"])
def test_its_policy_keeps_the_contract(name, tmp_path):
    """An example that people copy, mistakes included."""
    lines = (f"import {name}  # noqa: F401", "from exitbench.testing import TestPolicyContract  # noqa: F401")
    (tmp_path / "test_contract.py").write_text("\n".join(lines))
    paths = os.pathsep.join([str(EXAMPLES), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "sure-twice"]
    done = subprocess.run(
        command, cwd=tmp_path, env=OFFLINE | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 16
