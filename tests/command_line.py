"""The command line, run in this process."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch

import pytest

from exitbench.cli import main

__all__ = ["Outcome", "exitbench"]


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
