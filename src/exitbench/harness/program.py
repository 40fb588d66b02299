"""The harness's own command line, which knows the model "exitbench" here."""

import sys
from collections.abc import Sequence

from lm_eval.__main__ import cli_evaluate

import exitbench.harness.model  # noqa: F401  registers the model

__all__ = ["harness_main"]


def harness_main(arguments: Sequence[str]) -> None:
    """Run `lm_eval` with these arguments.

    Raises:
        SystemExit: as its parser does, for help and for mistakes.
        ExitbenchError: by the model.
    """
    sys.argv = ["lm_eval", *arguments]
    cli_evaluate()
