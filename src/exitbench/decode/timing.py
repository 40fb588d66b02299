"""How decoding is timed: the one protocol for every engine.

Jobs are warmed up, then run in turns, in another order each round, so that drift of the machine meets all alike. The
garbage collector is off while a job runs, and the device is waited for before every reading of the clock. Tokens are
counted from the ids that came out. Times are quoted as medians with quantiles, and relative to a baseline as the median
of each round's own ratio. What the machine can do at most is measured too, so that bytes and FLOPs a second stand
beside their ceilings.

Non-goals: energy, and several devices.
"""

import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from exitbench.decode.engine import Decoded
from exitbench.models.shape import ModelShape
from exitbench.replay.cost import block_work, readout_work

__all__ = [
    "Ceilings",
    "Spread",
    "Timing",
    "full_work",
    "measure_ceilings",
    "quiet",
    "resident_bytes",
    "synchronise",
    "time_in_turns",
]

Job = Callable[[], Decoded]

_CEILING_ROUNDS = 7
_COPY_BYTES = 2**28
_MATMUL_SIZE = {"cpu": 2048, "cuda": 8192}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Spread(_Frozen):
    """A number that was measured several times."""

    median: float
    q10: float
    q90: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Quantiles of at least one value."""
        q10, q90 = np.quantile(values, (0.1, 0.9))
        return cls(median=statistics.median(values), q10=float(q10), q90=float(q90), n=len(values))


class Timing(_Frozen):
    """One job over all rounds."""

    num_tokens: int
    """New tokens of one run, counted from ids."""
    total_s: Spread
    prefill_s: Spread | None
    """Until the first new tokens; None where the engine does not say."""
    decode_ms_per_token: Spread | None
    """From the first new tokens on, those not counted; of a batch, one token of one row. None as above, or where every
    answer is one token long."""
    ratio: Spread
    """Seconds a token over the baseline's in the same round."""
    peak_bytes: int | None
    """Most memory above what was held before, in one run beside the timed ones; None where that cannot be seen."""


class Ceilings(_Frozen):
    """The most that this machine was seen to do."""

    copy_bytes_per_s: float
    """Bytes read plus bytes written, of a large copy."""
    matmul_flops_per_s: float
    """Of a large square matrix product in the model's dtype."""


def synchronise(device: torch.device) -> None:
    """Wait until a device has done all that it was asked to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the garbage collector out of what is timed."""
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def time_in_turns(
    jobs: Mapping[str, Job], *, baseline: str, device: torch.device, warm_ups: int = 1, repeats: int = 5
) -> dict[str, tuple[Timing, Decoded]]:
    """Run jobs in turns.

    Args:
        jobs: by name.
        baseline: the one to which the others' times are put in relation.
        device: on which they run.
        warm_ups: rounds that are not kept.
        repeats: rounds that are.

    Returns:
        What each job took, and what it decoded in the last round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    decoded: dict[str, list[Decoded]] = {name: [] for name in jobs}
    names = list(jobs)
    for number in range(warm_ups + repeats):
        turn = number % len(names)
        for name in [*names[turn:], *names[:turn]]:
            with quiet():
                synchronise(device)
                start = time.perf_counter()
                result = jobs[name]()
                synchronise(device)
                took = time.perf_counter() - start
            if number >= warm_ups:
                seconds[name].append(took)
                decoded[name].append(result)
    a_token = {name: [s / d.num_tokens for s, d in zip(seconds[name], decoded[name], strict=True)] for name in names}
    return {
        name: (
            Timing(
                num_tokens=decoded[name][-1].num_tokens,
                total_s=Spread.of(seconds[name]),
                prefill_s=_prefill(decoded[name]),
                decode_ms_per_token=_decode(decoded[name]),
                ratio=Spread.of([a / b for a, b in zip(a_token[name], a_token[baseline], strict=True)]),
                peak_bytes=_peak_bytes(jobs[name], device),
            ),
            decoded[name][-1],
        )
        for name in names
    }


def _prefill(runs: Sequence[Decoded]) -> Spread | None:
    known = [run.prefill_s for run in runs if run.prefill_s is not None]
    return Spread.of(known) if len(known) == len(runs) else None


def _decode(runs: Sequence[Decoded]) -> Spread | None:
    values = []
    for run in runs:
        later = run.num_tokens - len(run.answers)
        if run.prefill_s is None or later < 1:
            return None
        values.append(1000 * (run.total_s - run.prefill_s) / later)
    return Spread.of(values)


def _peak_bytes(job: Job, device: torch.device) -> int | None:
    """Most memory that a job held above what there was before."""
    with quiet():
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            job()
            return torch.cuda.max_memory_allocated(device) - before
        try:
            before, most = resident_bytes(job)
        except (OSError, AttributeError):
            return None
        return max(most - before, 0)


def resident_bytes(work: Callable[[], object]) -> tuple[int, int]:
    """Bytes of this process that were resident before some work, and most of them while it was done.

    Raises:
        OSError, AttributeError: no Linux with glibc, or a container that forbids it.
    """
    ctypes.CDLL(None).malloc_trim(0)  # what is free goes back, or the work would find it there and need nothing
    Path("/proc/self/clear_refs").write_text("5")  # sets the kernel's high-water mark back to now
    before = _resident("VmRSS")
    work()
    return before, _resident("VmHWM")


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(field)))


def measure_ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Copy much memory, and multiply two large matrices; the fastest round counts, for it is a ceiling."""
    source = torch.ones(_COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    size = _MATMUL_SIZE.get(device.type, 2048)
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(size, size, generator=generator).to(device=device, dtype=dtype)
    copies, products = [], []
    for _ in range(_CEILING_ROUNDS):
        copies.append(_seconds(lambda: target.copy_(source), device))
        products.append(_seconds(lambda: matrix @ matrix, device))
    return Ceilings(copy_bytes_per_s=2 * _COPY_BYTES / min(copies), matmul_flops_per_s=2 * size**3 / min(products))


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start


def full_work(shape: ModelShape, *, batch: int, context: int) -> tuple[float, float]:
    """Bytes and FLOPs that one step of the full model needs, all rows together, by the counted anatomy.

    Args:
        shape: of the model.
        batch: rows.
        context: positions in the cache, the new one included.

    Raises:
        CostError: the model keeps no state.
    """
    work = readout_work(shape, rows=batch)
    for block in shape.blocks:
        work += block_work(block, sequences=batch, context=context)
    return work.bytes, work.flops
