"""exitbench: how much can an LLM gain from layer-wise early exit?

The command line is `exitbench`; the same jobs are in `exitbench.api`. `exitbench.generate` is a decoding method for
transformers' `model.generate`.
"""

from importlib import import_module
from importlib.metadata import version
from typing import Any

__all__ = ["__version__"]

__version__ = version("exitbench")


def __getattr__(name: str) -> Any:
    """Import torch and transformers only where they are asked for."""
    if name == "generate":
        return import_module("exitbench.decode.in_transformers").generate
    raise AttributeError(f"module 'exitbench' has no attribute {name!r}")
