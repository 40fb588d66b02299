"""The registry of signals. A signal is a pure function of a `DepthView`, one number a token.

Most are recorded in every trace. Some cost too much for that, or serve few: they are optional, and recorded when asked
for by name.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch

from exitbench.errors import ExitbenchError
from exitbench.registry import Registry
from exitbench.signals.view import DepthView

__all__ = ["SIGNALS", "Signal", "recorded_names", "signal"]


@dataclass(frozen=True, kw_only=True)
class Signal:
    """One number per (token, depth)."""

    name: str
    compute: Callable[[DepthView], torch.Tensor]
    """DepthView of T tokens at K depths -> (K, T)."""
    dtype: Literal["int32", "float32"]
    unit: str
    low: float
    high: float
    confidence: Literal[1, -1, 0]
    """1: higher means more settled; -1: lower does; 0: no such direction."""
    known_while_running: bool
    """Whether an exit policy could compute it: it needs neither the final distribution nor the target."""
    needs_readout: bool = True
    """Whether it is of what a depth predicts; False: of the hidden state alone, so it costs a policy no readout."""
    needs_previous: bool = False
    """Whether it asks for the view one block earlier, which is there only for signals that do."""
    recorded_by_default: bool = True
    """Whether every trace has it; False: only where it was asked for."""

    @property
    def needs_logits(self) -> bool:
        """Whether it may ask for logits themselves, which the GPU kernels never hold."""
        return self.needs_previous or not self.built_in

    @property
    def built_in(self) -> bool:
        """Whether it is one of this package's, none of which needs logits where the view knows what they come to."""
        return self.compute.__module__.startswith("exitbench.")

    @property
    def summary(self) -> str:
        """First line of the function's docstring."""
        return (self.compute.__doc__ or "").strip().splitlines()[0]


SIGNALS: Registry[Signal] = Registry("signal")


def signal(
    *,
    dtype: Literal["int32", "float32"] = "float32",
    unit: str,
    low: float,
    high: float,
    confidence: Literal[1, -1, 0],
    known_while_running: bool,
    needs_readout: bool = True,
    needs_previous: bool = False,
    recorded_by_default: bool = True,
) -> Callable[[Callable[[DepthView], torch.Tensor]], Callable[[DepthView], torch.Tensor]]:
    """Register the decorated function as a signal under its own name."""

    def register(compute: Callable[[DepthView], torch.Tensor]) -> Callable[[DepthView], torch.Tensor]:
        SIGNALS.add(
            compute.__name__,
            Signal(
                name=compute.__name__,
                compute=compute,
                dtype=dtype,
                unit=unit,
                low=low,
                high=high,
                confidence=confidence,
                known_while_running=known_while_running,
                needs_readout=needs_readout,
                needs_previous=needs_previous,
                recorded_by_default=recorded_by_default,
            ),
        )
        return compute

    return register


def recorded_names(also: Iterable[str] = ()) -> tuple[str, ...]:
    """Names of the signals that a trace records, sorted.

    Args:
        also: names of optional ones.

    Raises:
        UnknownNameError: there is no such signal.
        ExitbenchError: one of these is recorded anyway.
    """
    names = {name for name in SIGNALS if SIGNALS.get(name).recorded_by_default}
    for name in also:
        if SIGNALS.get(name).recorded_by_default:
            optional = [other for other in SIGNALS if not SIGNALS.get(other).recorded_by_default]
            raise ExitbenchError(
                f"--also names {name!r}, which every trace records, expected one of the optional signals "
                f"({', '.join(optional)}); leave it out"
            )
    return tuple(sorted({*names, *also}))
