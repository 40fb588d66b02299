"""exitbench: how much can an LLM gain from layer-wise early exit?

The command line is `exitbench`; the same jobs are in `exitbench.api`.
"""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("exitbench")
