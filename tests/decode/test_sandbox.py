"""Code run apart: what passes, what does not, and what it must not be able to do by accident."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from exitbench.decode import sandbox
from exitbench.decode.sandbox import passes
from exitbench.errors import DecodeError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are kept apart on POSIX systems only")

ADD = "def add(a, b):\n    return a + b\n"
TESTS = "assert add(1, 2) == 3"
# The tests of a candidate that did something first; they hold, so only what it did can fail.
HOLDS = "assert True"


def test_right_code_passes():
    """A harness that fails everything, or whose namespace the tests do not share."""
    verdict = passes(ADD, TESTS)
    assert (verdict.passed, verdict.reason) == (True, None)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (ADD.replace("+", "-"), "AssertionError"),
        ("def add(a, b:", "SyntaxError"),
        ("x = 1", "NameError"),
        ("raise ValueError('\\x1b[31m' + 'x' * 5000)", "ValueError: \\x1b"),
        ("def add(a, b):\n    return add(a, b)", "RecursionError"),
    ],
)
def test_wrong_code_fails_and_says_why(code, words):
    """A failure taken for a pass; escape sequences or pages of a model's text in a reason."""
    verdict = passes(code, TESTS)
    assert not verdict.passed
    assert words in verdict.reason
    assert len(verdict.reason) <= 200
    assert verdict.reason.isprintable()


@pytest.mark.parametrize("loop", ["while True: pass", "import time\ntime.sleep(60)"])
def test_endless_code_is_stopped(loop):
    """A wait that never ends, for code that computes and for code that sleeps."""
    started = time.monotonic()
    verdict = passes(loop, HOLDS, timeout_s=1)
    assert verdict.reason == "did not end within 1 s"
    assert time.monotonic() - started < 10


def test_ignored_signals_do_not_help():
    """A stop that asks politely."""
    code = "import signal, time\nfor s in (2, 15): signal.signal(s, signal.SIG_IGN)\ntime.sleep(60)"
    assert not passes(code, HOLDS, timeout_s=1).passed


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = bytearray(4 * 2**30)", "MemoryError"),
        ("import os\nwhile True: os.fork()", "BlockingIOError"),
        ("import subprocess, sys\nsubprocess.run([sys.executable])", "BlockingIOError"),
        ("import threading\nthreading.Thread(target=print).start()", "RuntimeError"),
        ("with open('big', 'wb') as f:\n    for _ in range(64): f.write(bytes(2**20))", "OSError"),
        ("kept = [open('/dev/null') for _ in range(1000)]", "Too many open files"),
        ("input()", "EOFError"),
    ],
)
def test_limits_hold(code, words):
    """A limit that is not set, or that does not bind who runs the tests."""
    verdict = passes(code, HOLDS)
    assert not verdict.passed
    assert words in verdict.reason


def test_surroundings_are_empty(monkeypatch):
    """Credentials of the environment, files of the working directory, or arguments with the secret in reach."""
    monkeypatch.setenv("EXITBENCH_TOKEN", "hush")
    empty = "import os, sys\nassert not os.environ, os.environ\nassert not os.listdir('.')\nassert len(sys.argv) == 1"
    assert passes(ADD, empty) == passes(ADD, TESTS)
    written = passes("open('note', 'w').write('x')", "assert open('note').read() == 'x'")
    assert written.passed  # its own folder is its own


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give root up")
def test_root_is_given_up(tmp_path):
    """Code of a model that may write anywhere."""
    tmp_path.chmod(0o755)
    code = f"import os\nassert 0 not in os.getresuid()\nopen({str(tmp_path / 'x')!r}, 'w')"
    assert "PermissionError" in passes(code, HOLDS).reason


def test_network_is_away():
    """A server that code can reach although the kernel lets networks be taken away."""
    flags = 0x40000000 | (0x10000000 if os.geteuid() else 0)
    probe = f"import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare({flags}))"
    if sys.platform != "linux" or subprocess.run([sys.executable, "-c", probe], check=False).returncode:
        pytest.skip("the kernel does not let networks be taken away")
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"import socket\nsocket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 2)"
        assert "OSError" in passes(code, HOLDS).reason


@pytest.mark.parametrize("stream", [1, 2])
def test_flood_of_output_is_thrown_away(stream):
    """Output kept until memory or disk is full, or that blocks the code once a pipe is."""
    code = f"import os\nfor _ in range(2000): os.write({stream}, b'x' * 65536)"
    assert passes(code, HOLDS).passed


@pytest.mark.parametrize(
    "code",
    [
        "import sys\nsys.exit(0)",
        "raise SystemExit",
        "import os\nos._exit(0)",
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
        "import ctypes\nctypes.string_at(0)",
    ],
)
def test_leaving_before_the_tests_is_no_pass(code):
    """Exit status 0 taken for success."""
    verdict = passes(code, HOLDS)
    assert not verdict.passed
    assert verdict.reason


@pytest.mark.parametrize("guess", ["passed", '{"outcome": "passed", "secret": "guess", "reason": ""}', "[]", "null"])
def test_guesses_are_no_pass(guess):
    """A verdict without the secret believed, wherever it is written."""
    code = f"import os\nfor fd in range(64):\n    try: os.write(fd, {guess.encode()!r})\n    except OSError: pass\n"
    assert passes(f"{code}\nos._exit(0)", HOLDS).reason == "ended before its tests did"


def test_flood_of_guesses_ends():
    """Everything that was written where the verdict belongs read into memory."""
    flood = "while True: os.write(fd, b'1' * 2**20)"
    code = f"import os\nfor fd in range(3, 64):\n    try:\n        {flood}\n    except OSError: pass"
    assert not passes(code, HOLDS, timeout_s=1).passed


def test_refusal_is_an_error_and_no_failure():
    """A machine that cannot keep code apart, reported as a model that cannot program."""
    said = json.dumps({"secret": "s", "outcome": "refused", "reason": "why"}).encode()
    with pytest.raises(DecodeError, match="why"):
        sandbox._verdict(said, "s")
