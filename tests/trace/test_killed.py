"""A run killed with SIGKILL, anywhere, and started again ends with the same bytes as one left alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from exitbench.trace.store import read_trace


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks the runs it kills")
def test_kill_anywhere_and_resume(toy_folder, tmp_path, contents):
    """A half-written file taken for whole, a sample lost or traced twice, a folder its own run refuses, rubbish."""
    script = Path(__file__).with_name("killing.py")
    output = subprocess.run(
        [sys.executable, str(script), str(toy_folder), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
    )
    assert output.returncode == 0, output.stderr[-3000:]
    folders = sorted(tmp_path.iterdir())
    expected = contents(tmp_path / "undisturbed")
    num_files = len(expected) + 1
    # Once before and once after each file; always: after each file in turn; at random: none is sure to hit.
    assert int(output.stdout) >= 3 * num_files
    assert len(folders) == 1 + 2 * num_files + 1 + 4
    for folder in folders:
        files = contents(folder)
        assert files.keys() == expected.keys(), folder.name
        assert files == expected, folder.name
        assert len(read_trace(folder).samples) == 4
