"""`python -m exitbench` is `exitbench`."""

from exitbench.cli import main

__all__: list[str] = []

main()
