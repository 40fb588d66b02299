"""At which depths a policy looks: all of them, every k-th, given ones, or a few chosen on calibration data.

Depth 0 is no probe, here as in published policies: it reads out the input token's own embedding, which a model with
tied embeddings "predicts" with near certainty. Depth L is none either: there the model itself answers.

Shapes: L blocks, K probe depths.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from exitbench.errors import ExitbenchError

__all__ = ["Schedule", "best_probes"]

Floats = NDArray[np.float64]


class Schedule(BaseModel):
    """Probe depths, for a model of any number of blocks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every: int = Field(default=1, ge=1)
    """Distance between probes: depths every, 2 every, .. below L."""
    depths: tuple[int, ...] | None = None
    """Just these, rising, possibly none; `every` says nothing then."""
    learned: int | None = Field(default=None, ge=1)
    """At most so many, to be chosen on calibration data; until then a schedule without probes."""

    @model_validator(mode="after")
    def _rising(self) -> "Schedule":
        if self.learned is not None and self.depths is not None:
            raise ValueError(
                f"probe depths are given or learned, got {self.depths} and at most {self.learned} to learn"
            )
        depths = self.depths or (1,)
        if depths[0] < 1 or any(b <= a for a, b in pairwise(depths)):
            raise ValueError(f"probe depths must rise from 1 on, got {self.depths}")
        return self

    @classmethod
    def parse(cls, text: str) -> "Schedule":
        """Read "every", "every-2", "10,20,25", "learned-3" or "none".

        Raises:
            ExitbenchError: none of these.
        """
        kind = re.fullmatch(r"(?:(?P<every>every)|every-(?P<step>[1-9]\d*)|learned-(?P<most>[1-9]\d*))", text)
        if kind:
            most = kind["most"]
            return cls(every=int(kind["step"] or 1), learned=int(most) if most else None)
        if text == "none":
            return cls(depths=())
        numbers = text.split(",")
        depths = tuple(int(number) for number in numbers) if all(n.strip().isdecimal() for n in numbers) else ()
        if not depths or depths[0] < 1 or list(depths) != sorted(set(depths)):
            raise ExitbenchError(
                f"--probes is {text!r}, expected 'every', 'every-2', rising depths like '10,20,25', 'learned-3' "
                "or 'none'"
            )
        return cls(depths=depths)

    @property
    def text(self) -> str:
        """What `parse` reads."""
        if self.learned is not None:
            return f"learned-{self.learned}"
        if self.depths is not None:
            return ",".join(map(str, self.depths)) or "none"
        return "every" if self.every == 1 else f"every-{self.every}"

    def at(self, num_blocks: int) -> NDArray[np.int64]:
        """(K,) probe depths in a model of L blocks, rising, from 1 to L - 1.

        Raises:
            ExitbenchError: a given depth lies behind the last block.
        """
        if self.learned is not None:
            return np.array([], dtype=np.int64)
        if self.depths is None:
            return np.arange(self.every, num_blocks, self.every)
        if self.depths and self.depths[-1] >= num_blocks:
            raise ExitbenchError(
                f"probe depth {self.depths[-1]} does not exist in a model of {num_blocks} blocks; "
                f"give depths from 1 to {num_blocks - 1}"
            )
        return np.array(self.depths, dtype=np.int64)


def best_probes(decided: Sequence[float] | Floats, rho: Floats, *, probe_cost: float, most: int) -> tuple[int, ...]:
    """Choose the probe depths with which a perfect detector saves most, net of the probes that fail.

    A token that is decided at depth D leaves at the first probe at or behind D and has failed at those before. With
    F(d) the share decided by depth d, probes d_1 < .. < d_m save

        sum over i of (F(d_i) - F(d_(i-1))) rho(d_i)  -  probe_cost sum over i of (1 - F(d_i)),  F(d_0) = 0,

    which a dynamic programme over the last probe maximises exactly.

    Args:
        decided: (L + 1,) F(d).
        rho: (L + 1,) share of the work behind each depth.
        probe_cost: of one failed probe, in the unit of `rho`.
        most: probes at most.

    Returns:
        Rising depths from 1 to L - 1; none where no probe pays.
    """
    share = np.asarray(decided, dtype=np.float64)
    num_blocks = len(rho) - 1
    inner = np.arange(1, num_blocks)
    # gain[a, b]: what probe b adds when a is the last one before it; a = 0 stands for none.
    before = np.concatenate([[0.0], share[inner]])
    gain = (share[inner][None, :] - before[:, None]) * rho[inner][None, :] - probe_cost * (1 - share[inner])[None, :]
    value = np.full((most + 1, num_blocks), -np.inf)
    value[0, 0] = 0.0
    came_from = np.zeros((most + 1, num_blocks), dtype=np.int64)
    for used in range(1, most + 1):
        for probe in inner:
            sums = value[used - 1, :probe] + gain[:probe, probe - 1]
            came_from[used, probe] = np.argmax(sums)
            value[used, probe] = sums.max()
    count, depth = divmod(int(np.argmax(value)), num_blocks)
    chosen: list[int] = []
    for left in range(count, 0, -1):
        chosen.append(depth)
        depth = int(came_from[left, depth])
    return tuple(reversed(chosen))
