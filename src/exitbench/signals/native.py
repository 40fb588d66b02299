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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exitbench.errors import ExitbenchError
from exitbench.files import replacing
from exitbench.models.cache import cache_root
from exitbench.signals.view import DepthView

__all__ = ["NativeReductions", "native_reductions"]

_SOURCE = Path(__file__).with_name("reductions.c")
_FLAGS = ("-O3", "-march=native", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
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
        library.top_ids.argtypes = (address, number, number, address)
        library.final_reductions.argtypes = (address, number, number, *[address] * 3)
        library.reductions.argtypes = (address, *[number] * 3, *[address] * 3, number, number, *[address] * 2)
        self._library = library

    def top_ids(self, logits_RV: torch.Tensor) -> torch.Tensor:
        """(R,) id of each row's largest logit, the lowest of those tied; -1 where that is NaN or infinite."""
        rows, vocab = logits_RV.shape
        logits, ids = logits_RV.contiguous(), torch.empty(rows, dtype=torch.int32)

        def part(first: int, last: int) -> None:
            self._library.top_ids(_row(logits, first), last - first, vocab, _row(ids, first))

        _in_parts(part, rows)
        return ids.long()

    def final(self, logits_TV: torch.Tensor) -> "FinalReductions":
        """Probabilities and properties of the final distributions of T tokens."""
        tokens, vocab = logits_TV.shape
        logits = logits_TV.contiguous()
        probabilities, out = torch.empty(tokens, vocab), torch.empty(tokens, len(_FIELDS), dtype=torch.float64)

        def part(first: int, last: int) -> None:
            room = torch.empty(vocab)
            places = (
                _row(logits, first),
                last - first,
                vocab,
                _row(probabilities, first),
                _row(room, 0),
                _row(out, first),
            )
            self._library.final_reductions(*places)

        _in_parts(part, tokens)
        return FinalReductions(logits=logits, probabilities=probabilities, out=out)

    def reductions(self, logits_KTV: torch.Tensor, final: "FinalReductions") -> dict[str, torch.Tensor]:
        """Properties of `DepthView`, name -> (K, T), of K depths of the T tokens of `final`."""
        depths, tokens, vocab = logits_KTV.shape
        logits, out = logits_KTV.contiguous(), torch.empty(depths, tokens, len(_FIELDS), dtype=torch.float64)
        of_final = (_row(final.logits, 0), _row(final.probabilities, 0), _row(final.out, 0))

        def part(first: int, last: int) -> None:
            room = torch.empty(vocab)
            shape = (depths, tokens, vocab)
            self._library.reductions(_row(logits, 0), *shape, *of_final, first, last, _row(room, 0), _row(out, 0))

        _in_parts(part, tokens)
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


def _row(values: torch.Tensor, index: int) -> int:
    """Address of an entry of the first axis."""
    return values.data_ptr() + index * values.stride(0) * values.element_size()


@cache
def _pool(num_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num_threads, thread_name_prefix="exitbench-reductions")


def _in_parts(job: Callable[[int, int], None], num_items: int) -> None:
    """Call `job(first, last)` on stretches of 0..num_items, one a thread of torch's; compiled code holds no lock."""
    bounds = np.linspace(0, num_items, min(torch.get_num_threads(), num_items) + 1).round().astype(int).tolist()
    list(_pool(torch.get_num_threads()).map(job, bounds[:-1], bounds[1:]))


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
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    made_from = (_SOURCE.read_text(encoding="utf-8"), *_FLAGS, dtype_flag, version, _instruction_sets())
    name = hashlib.sha256("\0".join(made_from).encode()).hexdigest()[:32]
    path = cache_root() / "native" / f"reductions-{name}.so"
    if not path.is_file():
        with replacing(path) as temporary:
            command = [compiler, *_FLAGS, dtype_flag, "-o", str(temporary), str(_SOURCE), "-lm"]
            subprocess.run(command, capture_output=True, check=True, timeout=300)
    return path


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
