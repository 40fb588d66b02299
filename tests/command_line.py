"""The command line, run in this process, and what its tests share."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch

import pytest

from exitbench.cli import main

__all__ = ["NUM_PROMPTS", "Outcome", "assert_refused", "contents", "exitbench", "run_arguments"]

NUM_PROMPTS = 12
"""In the file of `run_arguments`."""


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def exitbench(*arguments):
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["exitbench", *map(str, arguments)]
    with (
        patch.object(sys, "argv", argv),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as stop,
    ):
        main()
    return Outcome(code=stop.value.code or 0, out=out.getvalue(), err=err.getvalue())


def run_arguments(place, command="run", model="toy"):
    """A command on the toy and the prompts of a folder."""
    return (command, place / model, "--workload", place / "prompts.jsonl", "--max-new-tokens", "6", "--quiet")


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
