"""The compiled reductions: `reductions.c`, built with the machine's C compiler when first needed.

Without a compiler, or where what it built fails its trial, there is None, and callers use torch: the same numbers but
for their last digits, more slowly. A library stays in the user's cache folder under a name made of all it depends on:
source, flags, compiler and processor. It is code, so that folder must be writable by nobody else.

Shapes: K depths, T tokens, R rows, V vocabulary.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from exitbench.errors import ExitbenchError
from exitbench.models.cache import build_folder, cache_root
from exitbench.signals.view import DepthView

__all__ = ["FinalReductions", "NativeReductions", "native_reductions", "why_not_native"]

_CPU = torch.device("cpu")
_SOURCE = Path(__file__).with_name("reductions.c")
_COMPILE = ("-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-c")
# Without OpenMP: its functions are then found in the library of it that torch has loaded, and its threads are torch's.
_LINK = ("-shared",)
_LIBRARY = "reductions.so"
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
        library.divergences.argtypes = (address, *[number] * 4, *[address] * 2)
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

    def divergences(self, logits_KTV: torch.Tensor) -> torch.Tensor:
        """(K - 1, T) `DepthView.kl_previous` of all of K successive depths but the first."""
        logits, threads = logits_KTV.contiguous(), torch.get_num_threads()
        room = torch.empty(threads, logits.shape[-1])
        out = torch.empty(len(logits) - 1, logits.shape[1], dtype=torch.float64)
        self._library.divergences(logits.data_ptr(), *logits.shape, threads, room.data_ptr(), out.data_ptr())
        return out.float()


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


def native_reductions(dtype: torch.dtype, device: torch.device = _CPU) -> NativeReductions | None:
    """Compiled reductions for logits of `dtype`; None where there can be none, as on any other device than the CPU."""
    attempt = _attempt(dtype) if device.type == "cpu" else ""
    return None if isinstance(attempt, str) else attempt


def why_not_native(dtype: torch.dtype) -> str | None:
    """Why there are no compiled reductions for logits of `dtype`; None where there are."""
    attempt = _attempt(dtype)
    return attempt if isinstance(attempt, str) else None


@cache
def _attempt(dtype: torch.dtype) -> NativeReductions | str:
    """The reductions, or why there are none."""
    if dtype not in _DTYPE_FLAGS:
        return f"there is no compiled code for {str(dtype).removeprefix('torch.')}"
    compiler = shlex.split(os.environ.get("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        return f"there is no C compiler {compiler[0]!r} (CC names another)"
    try:
        native = NativeReductions(_loaded(compiler, _DTYPE_FLAGS[dtype]))
    except (OSError, AttributeError, subprocess.SubprocessError, ExitbenchError) as error:
        return f"compiling with {shlex.join(compiler)!r} failed: {str(error).splitlines()[0]}"
    return native if _passes_trial(native, dtype) else f"what {shlex.join(compiler)!r} compiled computes something else"


def _loaded(compiler: list[str], dtype_flag: str) -> ctypes.CDLL:
    """The compiled library; built where it is not there yet, or cannot be loaded."""
    folder = _folder(compiler, dtype_flag)

    def build(into: Path) -> None:
        _run(*compiler, *_COMPILE, dtype_flag, "-o", str(into / "reductions.o"), str(_SOURCE))
        _run(*compiler, *_LINK, "-o", str(into / _LIBRARY), str(into / "reductions.o"), "-lm")

    try:
        return ctypes.CDLL(str(build_folder(folder, build) / _LIBRARY))
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        return ctypes.CDLL(str(build_folder(folder, build) / _LIBRARY))


def _folder(compiler: list[str], dtype_flag: str) -> Path:
    """Where the library belongs: a name made of all it depends on."""
    made_from = (_SOURCE.read_text(encoding="utf-8"), *_COMPILE, *_LINK, dtype_flag, *compiler)
    there = (_run(*compiler, "--version"), _instruction_sets())
    return cache_root() / "native" / hashlib.sha256("\0".join((*made_from, *there)).encode()).hexdigest()[:32]


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
    final, before = DepthView(logits[-1], logits[-1], target), DepthView(logits[:-1], logits[:-1], target)
    reference: Any = DepthView(logits[1:], logits[1:], target, final=final, previous=before)
    found = native.reductions(logits[1:], native.final(logits[-1]))
    found["kl_previous"] = native.divergences(logits)
    return all(
        torch.allclose(values.float(), getattr(reference, name).float(), rtol=1e-3, atol=1e-3)
        for name, values in found.items()
    )
