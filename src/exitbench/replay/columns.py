"""What every token of a replay counts: one column for each kind of saving.

Shapes: L blocks, C columns.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from exitbench.errors import CostError
from exitbench.policies.policy import ExitPolicy
from exitbench.replay.cost import ProbeCost, State, Unit, block_work, exit_costs, readout_work
from exitbench.replay.profiles import MeasuredProfile, Profile
from exitbench.replay.speculation import DRAFT_LENGTHS
from exitbench.replay.times import chunk_factor, exit_times, step_times
from exitbench.trace.decided import remaining_costs
from exitbench.trace.table import Trace

__all__ = ["COLUMNS", "CostColumns"]

COLUMNS = ("blocks", "flops_copy", "bytes_deferred", "time_deferred")
"""Share of the blocks' work skipped; then shares saved net of probes and state completion."""

Floats = NDArray[np.float64]


class CostColumns:
    """Savings by exit depth, for policies with whatever probes.

    Args:
        trace: of the model.
        batch: rows decoded together.
        context: positions attended to.
        profile: whose times are projected, if any.
    """

    def __init__(self, trace: Trace, *, batch: int, context: int, profile: Profile | None) -> None:
        self._shape, self._model = trace.manifest.shape, trace.manifest.model
        self._batch, self._context, self._profile = batch, context, profile
        self._dtype = trace.manifest.settings.dtype
        self._translated = trace.manifest.settings.readout != "logit"
        self._rho = remaining_costs(self._shape.block_costs)
        self.reasons: dict[str, str] = {}
        """Why a column is unknown, by its name."""
        for column in COLUMNS[1:]:
            try:
                self._net(column, ProbeCost(readout=False), [])
            except CostError as error:
                self.reasons[column] = str(error)

    @property
    def known(self) -> list[str]:
        """Columns that have numbers."""
        return [column for column in COLUMNS if column not in self.reasons]

    def of(self, policy: ExitPolicy) -> Floats:
        """(L + 1, C) what a token that leaves at each depth saves; NaN in columns that are not known."""
        probe = ProbeCost(
            readout=policy.reads_out,
            translator=policy.reads_out and self._translated,
            gate_flops=policy.flops_per_probe,
        )
        probes = policy.schedule.at(self._shape.num_blocks).tolist() if policy.signals else []
        if policy.reads_out and "previous distribution" in policy.state:
            probes = sorted({depth - back for depth in probes for back in (0, 1)})
        columns = [self._rho]
        for column in COLUMNS[1:]:
            unknown = column in self.reasons
            columns.append(np.full(len(self._rho), np.nan) if unknown else self._net_if_known(column, probe, probes))
        return np.stack(columns, axis=1)

    def probe_as_blocks(self, policy: ExitPolicy) -> float:
        """FLOPs of the readouts of one failed probe as a share of all blocks' matrix products."""
        blocks = sum(block.product_weights for block in self._shape.blocks)
        readouts = 2 if "previous distribution" in policy.state else 1
        return readouts * self._shape.head_weights / blocks if policy.reads_out else 0.0

    @property
    def drafting(self) -> dict[str, Any] | str:
        """What `project` needs to know of costs, in bytes; or why that is not known.

        With a profile, draft lengths are left out whose check it has no time for.
        """
        try:
            blocks, readout = self._step()
            chunks = self._chunks()
        except CostError as error:
            return str(error)
        up_to = np.concatenate([[0.0], np.cumsum(blocks)]) / sum(blocks)
        return {
            "up_to": up_to,
            "readout": readout / sum(blocks),
            "chunk_factor": chunks.__getitem__,
            "lengths": tuple(tokens - 1 for tokens in chunks),
        }

    def _step(self) -> tuple[list[float], float]:
        """Cost of each block and of a readout in a step: seconds by the profile, bytes without one."""
        if self._profile is not None:
            at: Any = {"dtype": self._dtype, "batch": self._batch, "context": self._context}
            return step_times(self._shape, self._profile_of_model(), **at)
        blocks = [block_work(b, sequences=self._batch, context=self._context).bytes for b in self._shape.blocks]
        return blocks, readout_work(self._shape, rows=self._batch).bytes

    def _chunk(self, tokens: int) -> float:
        """Cost of the blocks for a chunk of tokens over that for one; a mixture reads more experts.

        Raises:
            CostError: it is longer than the context, or the profile was not measured for it.
        """
        if tokens > self._context:
            raise CostError(f"a chunk of {tokens} tokens is longer than the context of {self._context}")
        if self._profile is not None:
            at: Any = {"dtype": self._dtype, "batch": self._batch, "context": self._context}
            return chunk_factor(self._shape, self._profile_of_model(), tokens, **at)
        at = {"sequences": self._batch, "context": self._context}
        one, chunk = (sum(block_work(b, tokens=n, **at).bytes for b in self._shape.blocks) for n in (1, tokens))
        return chunk / one

    def _chunks(self) -> dict[int, float]:
        """Tokens of a chunk -> its cost, for every draft whose check can be costed.

        Raises:
            CostError: none of them.
        """
        chunks, reasons = {}, []
        for length in DRAFT_LENGTHS:
            try:
                chunks[length + 1] = self._chunk(length + 1)
            except CostError as error:
                reasons.append(str(error))
        if not chunks:
            raise CostError(reasons[0])
        return chunks

    def _profile_of_model(self) -> Profile:
        """The profile that was given.

        Raises:
            CostError: there is none, or it was measured with other weights than the trace is of.
        """
        profile, there = self._profile, self._model.weights_sha256
        if profile is None:
            raise CostError("no profile was given; name one with --profile")
        if isinstance(profile, MeasuredProfile) and profile.weights_sha256 != there:
            raise CostError(
                f"profile {profile.name} was measured on {profile.model} with weights {profile.weights_sha256[:12]}, "
                f"the trace is of {self._model.name} with weights {there[:12]}; measure that with 'exitbench profile', "
                "or use a roofline profile"
            )
        return profile

    def _net_if_known(self, column: str, probe: ProbeCost, probes: list[int]) -> Floats:
        """NaN where the profile has no time for such a probe: nobody has timed a gate."""
        try:
            return self._net(column, probe, probes)
        except CostError:
            return np.full(len(self._rho), np.nan)

    def _net(self, column: str, probe: ProbeCost, probes: list[int]) -> Floats:
        at: Any = {"batch": self._batch, "context": self._context, "probe": probe, "probes": probes}
        if column == "time_deferred":
            return 1.0 - exit_times(self._shape, self._profile_of_model(), dtype=self._dtype, state="deferred", **at)
        unit: Unit = "flops" if column == "flops_copy" else "bytes"
        state: State = "copy" if column == "flops_copy" else "deferred"
        return 1.0 - exit_costs(self._shape, state=state, unit=unit, **at)
