"""The registry of signals. A signal is a pure function of a `DepthView`, one number a token."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from exitbench.registry import Registry
from exitbench.signals.view import DepthView

__all__ = ["SIGNALS", "Signal", "signal"]


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
            ),
        )
        return compute

    return register
