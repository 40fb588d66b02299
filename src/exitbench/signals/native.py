"""The compiled reductions: `reductions.c`, built with the machine's C compiler when first needed.

Without a compiler, or where what it built fails its trial, there is None, and callers use torch: the same numbers, more
slowly. A library stays in the user's cache folder under a name made of all it depends on: source, flags, compiler and
processor.

Shapes: K depths, T tokens, R rows, V vocabulary.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from exitbench.errors import ExitbenchError
from exitbench.files import replacing
from exitbench.models.cache import cache_root
from exitbench.signals.view import DepthView

__all__ = ["NativeReductions", "native_reductions"]

_SOURCE = Path(__file__).with_name("reductions.c")
_COMPILE = ("-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-c")
# Without OpenMP: its functions are then found in the library of it that torch has loaded, and its threads are torch's.
_LINK = ("-shared",)
_DTYPE_FLAGS = {torch.float32: "-DFLOAT32", torch.bfloat16: "-DBFLOAT16"}
_FIELDS = (
    *("top_logit", "second_shifted", "log_normaliser", "expected", "shifted_mean"),
    *("centred_square", "centred_product", "surprise", "total_variation", "final_rank", "top_id"),
)
"""The C structure's, in order; each a property of `DepthView`."""


class NativeReductions:
    """What is needed of rows of logits of one dtype, by compiled code.

    Args:
        library: `reductions.c`, compiled for that dtype.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        address, number = ctypes.c_void_p, ctypes.c_int64
        library.top_ids.argtypes = (address, *[number] * 3, address)
        library.final_reductions.argtypes = (address, *[number] * 3, *[address] * 3)
        library.reductions.argtypes = (address, *[number] * 4, *[address] * 5)
        self._library = library

    def top_ids(self, logits_RV: torch.Tensor) -> torch.Tensor:
        """(R,) id of each row's largest logit, the lowest of those tied; -1 where that is NaN or infinite."""
        logits, ids = logits_RV.contiguous(), torch.empty(len(logits_RV), dtype=torch.int32)
        self._library.top_ids(logits.data_ptr(), *logits.shape, torch.get_num_threads(), ids.data_ptr())
        return ids.long()

    def final(self, logits_TV: torch.Tensor) -> "FinalReductions":
        """Probabilities and properties of the final distributions of T tokens."""
        logits, threads = logits_TV.contiguous(), torch.get_num_threads()
        probabilities, room = torch.empty(logits.shape), torch.empty(threads, logits.shape[-1])
        out = torch.empty(len(logits), len(_FIELDS), dtype=torch.float64)
        places = (room.data_ptr(), probabilities.data_ptr(), out.data_ptr())
        self._library.final_reductions(logits.data_ptr(), *logits.shape, threads, *places)
        return FinalReductions(logits=logits, probabilities=probabilities, out=out)

    def reductions(self, logits_KTV: torch.Tensor, final: "FinalReductions") -> dict[str, torch.Tensor]:
        """Properties of `DepthView`, name -> (K, T), of K depths of the T tokens of `final`."""
        logits, threads = logits_KTV.contiguous(), torch.get_num_threads()
        room = torch.empty(threads, logits.shape[-1])
        out = torch.empty(*logits.shape[:2], len(_FIELDS), dtype=torch.float64)
        of_final = (final.logits.data_ptr(), final.probabilities.data_ptr(), final.out.data_ptr())
        places = (room.data_ptr(), *of_final, out.data_ptr())
        self._library.reductions(logits.data_ptr(), *logits.shape, threads, *places)
        return _properties(out)


@dataclass(frozen=True, kw_only=True)
class FinalReductions:
    """What compiled code needs to know of the final distributions of T tokens."""

    logits: torch.Tensor
    """(T, V)"""
    probabilities: torch.Tensor
    """(T, V), float32"""
    out: torch.Tensor
    """(T, fields), float64"""

    @property
    def known(self) -> dict[str, torch.Tensor]:
        """Properties of the final `DepthView`."""
        return _properties(self.out) | {"probabilities": self.probabilities}


def _properties(out: torch.Tensor) -> dict[str, torch.Tensor]:
    whole = ("top_id", "final_rank")  # no top id: 0, and all else that rests on it is not a number
    return {
        name: out[..., i].clamp_min(0).long() if name in whole else out[..., i].float()
        for i, name in enumerate(_FIELDS)
    }


@cache
def native_reductions(dtype: torch.dtype) -> NativeReductions | None:
    """Compiled reductions for logits of `dtype` on the CPU; None where there can be none."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or dtype not in _DTYPE_FLAGS:
        return None
    try:
        native = NativeReductions(ctypes.CDLL(str(_library(compiler, _DTYPE_FLAGS[dtype]))))
    except (
        OSError,
        subprocess.SubprocessError,
        ExitbenchError,
    ):  # no compiler that works, or nowhere to keep the result
        return None
    return native if _passes_trial(native, dtype) else None


def _library(compiler: str, dtype_flag: str) -> Path:
    """Path of the compiled library, built if it is not there yet."""
    version = _run(compiler, "--version")
    made_from = (_SOURCE.read_text(encoding="utf-8"), *_COMPILE, *_LINK, dtype_flag, version, _instruction_sets())
    name = hashlib.sha256("\0".join(made_from).encode()).hexdigest()[:32]
    path = cache_root() / "native" / f"reductions-{name}.so"
    if not path.is_file():
        with replacing(path) as temporary, tempfile.TemporaryDirectory() as folder:
            compiled = str(Path(folder) / "reductions.o")
            _run(compiler, *_COMPILE, dtype_flag, "-o", compiled, str(_SOURCE))
            _run(compiler, *_LINK, "-o", str(temporary), compiled, "-lm")
    return path


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


def _instruction_sets() -> str:
    """What distinguishes processors that share a cache folder."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.exists() else []
    stated = [line for line in lines if line.startswith(("flags", "Features"))]
    return stated[0] if stated else f"{platform.machine()} {platform.processor()}"


def _passes_trial(native: NativeReductions, dtype: torch.dtype) -> bool:
    """Whether compiled and torch code agree, roughly, on a few random rows: that it runs, and is what it should be."""
    generator = torch.Generator().manual_seed(0)
    logits = (8 * torch.randn(3, 4, 5000, generator=generator)).to(dtype)
    target = torch.zeros(4, dtype=torch.long)
    reference: Any = DepthView(logits, logits, target, final=DepthView(logits[-1], logits[-1], target))
    found = native.reductions(logits, native.final(logits[-1]))
    return all(
        torch.allclose(values.float(), getattr(reference, name).float(), rtol=1e-3, atol=1e-3)
        for name, values in found.items()
    )
