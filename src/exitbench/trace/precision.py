"""Traces that stop as soon as a figure is known well enough: what is recorded of that, and who decides.

Samples are put into an order of which every beginning is a sample of the whole (`stratified_order`), and traced up to a
first look, then up to a second one, and so on; after each look somebody says whether that was enough. A trace that
stopped is a complete trace of its first samples. Which looks there are, and what is enough, is statistics and no
business of this package: see `exitbench.score.looks`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from exitbench.trace.table import Trace

__all__ = ["Look", "Precision", "Stopping"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Look(_Frozen):
    """What was seen after some of the samples."""

    n_samples: int
    """Samples traced or failed by then."""
    n_prompts: int
    """Of these, prompts with at least one token."""
    level: float
    """Confidence level of the interval looked at, e.g. 0.9875."""
    half_width: float | None
    """Half the length of that interval; None with too few prompts for one."""

    @property
    def width_text(self) -> str:
        """The half-width in words."""
        return "no interval" if self.half_width is None else f"half-width {self.half_width:.4f}"


class Precision(_Frozen):
    """The precision that was asked for, and what came of it; the `precision.json` of a trace folder."""

    target: float
    """Half-width asked for."""
    reached: bool
    n_available: int
    """Samples that might have been used."""
    n_looks: int
    """Looks there would have been at most."""
    looks: tuple[Look, ...] = Field(min_length=1)
    """Those that were taken; every interval of the result has the level of the last one."""

    @property
    def finished(self) -> bool:
        """Whether no further sample is to be traced."""
        return self.reached or len(self.looks) == self.n_looks

    def text(self) -> str:
        """The last look in a few words."""
        look = self.looks[-1]
        place = f"look {len(self.looks)} of {self.n_looks}"
        return f"{place}: {look.width_text} with {look.n_samples} of {self.n_available} prompts"

    @property
    def level(self) -> float:
        """Confidence level of every interval of the result."""
        return self.looks[-1].level


class Stopping(Protocol):
    """Decides after how many samples a trace stops."""

    def plan(self, num_samples: int) -> Sequence[int]:
        """Say how many samples each look is taken after, rising to `num_samples`; fixed before anything is traced.

        Raises:
            TraceError: too few samples for any look.
        """

    def look(self, trace: "Trace") -> Precision:
        """Look at the next of the planned beginnings of a trace."""
