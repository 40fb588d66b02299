"""The command line: parse, call `exitbench.api`, print.

Results go to standard output, everything else to standard error. Exit code 2 means a mistake in what was asked or
given, with one line that says what to do; 1 means that some samples failed.
"""

from exitbench.cli.program import app, main

__all__ = ["app", "main"]
