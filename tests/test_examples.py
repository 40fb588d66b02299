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
    """An example that the code has left behind; the new policy's figures printed under the plain one's name."""
    plain, own = run("add_a_policy.py").split("sure-twice")
    assert plain.startswith("top1-prob")
    for text in (plain, own):
        assert len(re.findall(r"^ +[01]\.\d+ +\d+\.\d% +\d+\.\d%$", text, re.MULTILINE)) == 6
        assert "thresholds chosen on other prompts, 5% of tokens allowed to change:" in text
        assert re.search(r"saved \d\.\d+ \[\d\.\d+, \d\.\d+\], changed \d\.\d+ \[", text)
    assert plain != own


def test_add_a_policy_on_a_trace(tmp_path):
    """A trace that was given and not used; a crash where there are too few prompts to choose a threshold."""
    folder = tmp_path / "trace"
    model = str(save_toy(tmp_path / "toy", num_blocks=3))
    trace(model, load_workload("mini").limited(6), out=folder, options=TraceOptions(max_new_tokens=4))
    assert run("add_a_policy.py", folder).count("no threshold chosen: that needs at least 10 prompts") == 2


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
