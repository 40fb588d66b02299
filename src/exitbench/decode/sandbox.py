"""Whether Python code from a model passes tests, found by running it, apart from everything else as far as that goes.

It guards against accidents (endless loops, floods of output, memory or processes that run away, files written here and
there) and against casual tricks (leaving before the tests, printing what looks like success). It does NOT guard
against an adversary: the code runs on this machine's kernel, can read whatever the user can read, can send signals to
the user's other processes (unless started as root, which is given up), has the network where the kernel does not let
it be taken away, can fill a disk with many small files, can find the harness's secret in the frames above its own, and
can return objects that say they equal anything. Code that may be hostile belongs in a virtual machine; so nothing here
runs code unless asked to by name.

The process: `python -I -S` without a shell, an empty folder, an empty environment, a session of its own, ends of time
by the clock and by the CPU, and limits of memory (1 GiB), files (16 MiB each, 64 open) and processes and threads (none
but itself). What it prints is thrown away. Passed is what says so with a secret, which the harness reads from
standard input before the code runs, and writes after the tests have.
"""

import json
import math
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from exitbench.errors import DecodeError

__all__ = ["Verdict", "passes"]

_INSIDE = Path(__file__).with_name("sandboxed.py")
_MOST_READ = 4096
_NOBODY = 65534


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of running code against tests."""

    passed: bool
    reason: str | None
    """Why not, in one line of ASCII that may quote the code's own error; None where it passed."""


def passes(code: str, tests: str, *, timeout_s: float = 10.0) -> Verdict:
    """Run Python code, then tests in the same namespace; passed are those whose tests end without an exception.

    Args:
        code: of the candidate.
        tests: statements, such as `assert add(1, 2) == 3`.
        timeout_s: seconds by the clock until all is killed.

    Raises:
        DecodeError: this system cannot keep the code apart.
    """
    if os.name != "posix":
        raise DecodeError("running code from answers needs Linux or macOS; leave out --run-code")
    secret = secrets.token_hex()
    orders = {"secret": secret, "code": code, "tests": tests, "cpu_s": math.ceil(timeout_s) + 1}
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile() as said,
        tempfile.TemporaryFile() as asked,
    ):
        if os.geteuid() == 0:
            os.chown(folder, _NOBODY, _NOBODY)
        asked.write(json.dumps(orders).encode())
        asked.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_INSIDE)],
            stdin=asked,
            stdout=said,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={},
            start_new_session=True,
        )
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return Verdict(passed=False, reason=f"did not end within {timeout_s:g} s")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        said.seek(0)
        return _verdict(said.read(_MOST_READ), secret)


def _verdict(said: bytes, secret: str) -> Verdict:
    """Read what the harness said, or what somebody else did in its place."""
    try:
        words = json.loads(said)
    except ValueError:
        words = None
    if not isinstance(words, dict) or words.get("secret") != secret:
        return Verdict(passed=False, reason="ended before its tests did")
    if words["outcome"] == "refused":
        raise DecodeError(f"code from answers cannot be kept apart here ({words['reason']}); leave out --run-code")
    passed = words["outcome"] == "passed"
    return Verdict(passed=passed, reason=None if passed else words["reason"])
