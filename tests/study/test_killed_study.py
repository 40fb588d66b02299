"""A study killed with SIGKILL, anywhere and often, and started again ends with the same rows as one left alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from toy_study import make_place, rows_in, spec_of, write_spec


@pytest.mark.slow  # dozens of runs; that of traces is among the fast tests
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks the runs it kills")
def test_kill_anywhere_and_resume(tmp_path):
    """Rows lost, doubled or of half a trace; a folder that its own study refuses; scratch that stays."""
    make_place(tmp_path)
    settings = {"document_tokens": 16, "limit": 3, "max_new_tokens": 2}
    spec = write_spec(tmp_path, spec_of(settings=settings))
    small = write_spec(tmp_path, spec_of(models=["toy-0"], workloads=["text.txt"], settings=settings), "small.yaml")
    script, work = Path(__file__).with_name("killing_study.py"), tmp_path / "work"
    output = subprocess.run(
        [sys.executable, *map(str, (script, spec, small, work))],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
    )
    assert output.returncode == 0, output.stderr[-3000:]
    at_random, after_files = map(int, output.stdout.split())
    assert at_random == 10
    assert after_files == 6  # spec, plan; manifest, samples; part, part; part, tokens; rows, summary; summary, page
    assert len({row["cell"] for row in rows_in(work / "alone") if row["figure"] == "ees"}) == 4
    for alone, disturbed in (("alone", "random-*"), ("small", "small-*")):
        expected, folders = rows_in(work / alone), list(work.glob(disturbed))
        assert folders
        for folder in folders:
            left = sorted(path.name for path in folder.iterdir())
            assert left == ["cells", "index.html", "plan.json", "run.json", "spec.yaml"], folder.name
            assert rows_in(folder) == expected, folder.name
