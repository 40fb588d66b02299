"""What a result was made with: library versions and machine, saved in every artefact."""

import os
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["environment_report", "library_versions", "versions_text"]

_LIBRARIES = ("exitbench", "torch", "transformers")
_MORE_LIBRARIES = (
    *("accelerate", "bitsandbytes", "gguf", "numpy", "pyarrow", "safetensors", "scipy", "tokenizers", "torchao"),
    "triton",
)


@cache
def _version(name: str) -> str:
    """Of a distribution, looked for on disk once: it does not change while it is imported."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _versions(names: tuple[str, ...]) -> dict[str, str]:
    return {name: _version(name) for name in names}


def library_versions() -> dict[str, str]:
    """Versions of the libraries that can change a recorded number."""
    return _versions(_LIBRARIES)


def versions_text(versions: Mapping[str, str]) -> str:
    """Versions by name as one line, sorted."""
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))


def environment_report() -> dict[str, Any]:
    """Python, machine, threads, accelerators and further versions, as plain JSON values."""
    import torch

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "num_cores": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "accelerators": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "libraries": _versions(_LIBRARIES + _MORE_LIBRARIES),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
