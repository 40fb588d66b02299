"""The command line as a whole: its options, its help, and the package run as a module."""

import subprocess
import sys

import typer

from command_line import Outcome, assert_refused, exitbench
from exitbench import __version__
from exitbench.cli import app

OPTIONS_OF_A_TRACE = {
    *("--workload", "--on", "--limit", "--max-new-tokens", "--chat-template", "--no-chat-template", "--dtype"),
    *("--device", "--max-memory", "--attention", "--readout", "--revision", "--trust-remote-code", "--out", "--seed"),
    *("--fast", "--also", "--precision", "--memory", "--json", "--quiet"),
}

OPTIONS = {
    "run": OPTIONS_OF_A_TRACE,
    "trace": OPTIONS_OF_A_TRACE,
    "lens": {
        *("--workload", "--out", "--tokens", "--learning-rate", "--seed", "--dtype", "--device", "--max-memory"),
        *("--attention", "--revision", "--trust-remote-code", "--json", "--quiet"),
    },
    "score": {"--skip-corrupt", "--seed", "--json"},
    "replay": {
        *("--policy", "--probes", "--category", "--eps", "--procedure", "--risk", "--delta", "--batch", "--context"),
        *("--profile", "--seed", "--save-policies", "--out", "--json", "--quiet"),
    },
    "decode": {
        *("--workload", "--policy", "--threshold", "--probes", "--state", "--rows", "--batch", "--draft"),
        *("--most-waiting", "--limit", "--max-new-tokens", "--chat-template", "--no-chat-template", "--readout"),
        *("--dtype", "--device", "--max-memory", "--attention", "--revision", "--trust-remote-code", "--out"),
        *("--run-code", "--json", "--quiet"),
    },
    "findings": {"--out", "--json"},
    "report": {"--out", "--format", "--skip-corrupt", "--seed"},
    "check": {
        *("--all", "--dtype", "--device", "--max-memory", "--attention", "--revision", "--trust-remote-code"),
        *("--json", "--quiet"),
    },
    "profile": {
        *("--context", "--batches", "--repeats", "--dtype", "--device", "--max-memory", "--attention", "--revision"),
        *("--trust-remote-code", "--out", "--json", "--quiet"),
    },
    "maxskip": {
        *("--tasks", "--include-path", "--depths", "--state", "--metric", "--limit", "--num-fewshot", "--batch"),
        *("--chat-template", "--no-chat-template", "--seed", "--dtype", "--device", "--max-memory", "--attention"),
        *("--revision", "--trust-remote-code", "--json", "--quiet"),
    },
    "study": {"--out", "--dry-run", "--retry-failed", "--ray", "--json", "--quiet"},
    "lm-eval": set(),
    "list": {"--json"},
}


def test_options_are_frozen():
    """An option that appears, disappears or is renamed without anybody deciding so."""
    commands = typer.main.get_command(app).commands
    found = {
        name: {flag for p in command.params for flag in (*p.opts, *p.secondary_opts) if flag.startswith("--")}
        for name, command in commands.items()
    }
    assert {name: flags - {"--help"} for name, flags in found.items()} == OPTIONS


def test_help_and_version():
    """No arguments that end in an error instead of the help."""
    assert exitbench().out == exitbench("--help").out != ""
    assert exitbench("--version").out == f"{__version__}\n"


def test_python_m_exitbench():
    """A package that cannot be run as a module, or loses exit codes on the way."""
    command = [sys.executable, "-m", "exitbench", "score", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    outcome = Outcome(code=done.returncode, out=done.stdout, err=done.stderr)
    assert_refused(outcome, "nowhere: there is no such file or folder")
