"""The command line as a whole: its commands in the order of its help, and errors made exit codes."""

import sys
from typing import Annotated, Any

import typer

from exitbench import __version__
from exitbench.cli.decoding import decode
from exitbench.cli.findings import findings
from exitbench.cli.measuring import check, lens, profile, run, trace
from exitbench.cli.printing import STDERR, STDOUT, complain
from exitbench.cli.reading import list_parts, replay, report, score
from exitbench.cli.studying import study
from exitbench.cli.tasks import PASS_ON, lm_eval, maxskip
from exitbench.errors import ExitbenchError

__all__ = ["app", "main"]

app = typer.Typer(
    help="How much can an LLM gain from layer-wise early exit?",
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _command in (run, trace, lens, score, replay, decode, maxskip, study, findings, report, profile, check):
    app.command()(_command)
app.command(name="lm-eval", context_settings=PASS_ON)(lm_eval)
app.command(name="list")(list_parts)

# The base of all that the parser says of a command line; typer gives a name only to this one of its kinds.
_UsageError: Any = typer.BadParameter.__base__
_INTERRUPTED = 130


def _version(value: bool) -> None:
    if value:
        STDOUT.print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """How much can an LLM gain from layer-wise early exit?"""


def main() -> None:
    """Run the command line; the one place where errors become exit codes."""
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except _UsageError as error:
        command = error.ctx.command_path if error.ctx else "exitbench"
        message = " ".join(error.format_message().split()).rstrip(".")
        complain(f"{message}; see '{command} --help'")
        sys.exit(2)
    except ExitbenchError as error:
        complain(str(error))
        sys.exit(2)
    except OSError as error:  # a folder without permission, a disk that fails
        complain(
            f"{error.filename or 'input or output'}: {error.strerror or error}; check the path and its permissions"
        )
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        STDERR.print("interrupted; a run, trace, lens, decode or study resumes with the same command")
    sys.exit(code)
