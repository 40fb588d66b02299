"""From what was typed to a policy that is ready for decoding."""

from pathlib import Path
from typing import Any

from exitbench.errors import DecodeError
from exitbench.policies.builtin import ORACLES, POLICIES
from exitbench.policies.files import policy_from_json, read_policy
from exitbench.policies.policy import ExitPolicy
from exitbench.policies.schedule import Schedule

__all__ = ["policy_to_decode"]


def policy_to_decode(
    named: str, *, num_blocks: int, threshold: float | None = None, probes: str | None = None
) -> ExitPolicy:
    """A policy ready for decoding, from what was typed.

    Args:
        named: name of a policy, or a policy file.
        num_blocks: L of the model that it is for.
        threshold: of a policy by name, needed there; of a file, in place of its own.
        probes: its probe depths, as `Schedule.parse` reads them.

    Raises:
        ExitbenchError: no such policy, one that looks ahead, or one without a threshold.
    """
    if named in {oracle.name for oracle in ORACLES}:
        raise DecodeError(f"policy {named!r} looks into the future, so it can be replayed and not decoded")
    changes: dict[str, Any] = {} if probes is None else {"schedule": Schedule.parse(probes)}
    if named.endswith(".json"):
        policy = read_policy(Path(named), num_blocks=num_blocks)
    else:
        policy = POLICIES.get(named)()
        if threshold is None:
            grid = policy.grid(num_blocks)
            raise DecodeError(
                f"policy {named!r} needs a --threshold, {grid[0]:g} (loose) to {grid[-1]:g} (strict); or calibrate one "
                "on a trace with 'exitbench replay TRACE --save-policies DIR', and give the file as --policy"
            )
    if threshold is not None:
        changes["threshold"] = threshold
    return policy_from_json(policy.model_copy(update=changes).to_json(), num_blocks=num_blocks)
