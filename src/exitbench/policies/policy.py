"""What an exit policy is: a score at every probe depth, and a threshold.

A token leaves at the first probe depth at which its score reaches the threshold, else it runs to depth L. Every
published criterion has that form once its scale is turned so that a higher score means "more settled". So one number,
the threshold, is all that calibration has to choose, and all thresholds can be replayed in one sweep.

The same object serves replay, where the scores of all tokens at all depths are computed at once, and decoding, where
they are computed depth by depth: `scores` may use the present column and those before it, never a later one. Policies
are frozen and are written as plain JSON. Criteria that look into the future are no `ExitPolicy`: see `oracle`.

Shapes: N tokens, K probe depths up to the present one, L blocks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from exitbench.errors import ExitbenchError
from exitbench.policies.schedule import Schedule, best_probes

__all__ = ["Calibration", "ExitPolicy", "Floats", "Seen", "State"]

Floats = NDArray[np.float64]
State = Literal["earlier probes", "answer position", "previous hidden state", "previous distribution"]
"""What must be carried along for a policy, beside the signals at the present depth."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a policy may look at."""

    depths: NDArray[np.int64]
    """(K,) probe depths so far, rising."""
    num_blocks: int
    """L."""
    answer_position: NDArray[np.int64]
    """(N,) how many tokens of its answer come before each token."""
    answer_limit: int
    """Longest answer, in tokens."""
    signals: Mapping[str, NDArray[np.generic]]
    """Name -> (N, K); those that the policy declares."""

    def up_to(self, count: int) -> "Seen":
        """The same tokens when only the first `count` probes have been made."""
        signals = {name: values[:, :count] for name, values in self.signals.items()}
        return replace(self, depths=self.depths[:count], signals=signals)

    def rows(self, keep: NDArray[Any]) -> "Seen":
        """Some of the tokens, by mask or index."""
        signals = {name: values[keep] for name, values in self.signals.items()}
        return replace(self, answer_position=self.answer_position[keep], signals=signals)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Tokens on which a policy may be fitted before its threshold is chosen on others."""

    seen: Seen
    """At every probe depth of the policy."""
    agrees: NDArray[np.bool_]
    """(N, K) whether the top-1 token there is the full model's."""
    decided: Floats
    """(L + 1,) F(d): share of the tokens decided by each depth."""
    rho: Floats
    """(L + 1,) share of the blocks' work behind each depth."""
    probe_cost: float
    """Of one failed probe, in the unit of `rho`."""
    weights_sha256: str
    """Of the model whose tokens they are."""


class ExitPolicy(BaseModel):
    """A score and a threshold. Subclasses are one criterion each, with its source in the docstring."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: ClassVar[str]
    """Under which it is registered and reported."""
    signals: ClassVar[tuple[str, ...]] = ()
    """Signals it looks at; see `exitbench.signals.SIGNALS`."""
    reads_out: ClassVar[bool] = True
    """Whether a probe needs a readout: whether any of its signals does."""
    state: ClassVar[tuple[State, ...]] = ()
    is_trained: ClassVar[bool] = False
    """Whether it must be fitted on calibration data before it has scores."""
    flops_per_probe: ClassVar[int] = 0
    """Of its own arithmetic, without the signals."""

    threshold: float | None = None
    """Score from which a token leaves; None: it never does."""
    schedule: Schedule = Schedule()
    fitted_on: str | None = None
    """Hash of the weights of the model it was fitted on, if it was."""

    def scores(self, seen: Seen) -> Floats:
        """How settled each token looks at each of the probe depths so far.

        Args:
            seen: N tokens at K probe depths.

        Returns:
            (N, K); column k depends on columns 0..k alone. NaN: cannot leave there.
        """
        raise NotImplementedError

    @classmethod
    def grid(cls, num_blocks: int) -> Floats:
        """(G,) thresholds worth trying, rising from loose to strict; declared, not taken from data."""
        raise NotImplementedError

    def fitted(self, calibration: Calibration) -> Self:
        """This policy with its trained parts fitted; itself where there are none.

        Args:
            calibration: at the probe depths of `scheduled`.
        """
        return self

    def scheduled(self, calibration: Calibration) -> Self:
        """This policy with the probe depths it will use: chosen on the calibration tokens where it is to learn them."""
        most = self.schedule.learned
        if most is None:
            return self
        depths = best_probes(calibration.decided, calibration.rho, probe_cost=calibration.probe_cost, most=most)
        return self.model_copy(update={"schedule": Schedule(depths=depths)})

    @property
    def learns(self) -> bool:
        """Whether something is to be fitted before it can be used."""
        return (self.is_trained and self.fitted_on is None) or self.schedule.learned is not None

    def leaves(self, seen: Seen) -> NDArray[np.bool_]:
        """(N,) whether each token leaves at the last of the probe depths so far, having stayed at those before."""
        if self.threshold is None or len(seen.depths) == 0:
            return np.zeros(len(seen.answer_position), dtype=np.bool_)
        return np.asarray(self.scores(seen)[:, -1] >= self.threshold)

    def exits(self, seen: Seen) -> NDArray[np.int64]:
        """(N,) depth at which each token leaves, L for those that never do.

        Args:
            seen: at every probe depth.
        """
        stays = np.full(len(seen.answer_position), seen.num_blocks)
        if self.threshold is None or len(seen.depths) == 0:
            return stays
        reached = self.scores(seen) >= self.threshold
        return np.where(reached.any(axis=1), seen.depths[reached.argmax(axis=1)], stays)

    def checked(self, num_blocks: int) -> Self:
        """This policy, where it makes sense in a model of L blocks.

        Raises:
            ExitbenchError: its threshold lies outside its grid, or a probe depth behind the last block.
        """
        self.schedule.at(num_blocks)
        grid = self.grid(num_blocks)
        if self.threshold is not None and not grid[0] <= self.threshold <= grid[-1]:
            raise ExitbenchError(
                f"policy {self.name!r} has threshold {self.threshold:g}, expected {grid[0]:g} to {grid[-1]:g} in a "
                f"model of {num_blocks} blocks; give one in that range, or none to leave no token early"
            )
        return self

    def to_json(self) -> dict[str, Any]:
        """The policy as plain JSON, its name under "policy"."""
        return {"policy": self.name} | self.model_dump(mode="json")
