"""From model arguments as they are typed to an exit policy.

The harness splits arguments at commas and reads values as Python where it can, so that depths arrive as a list, as one
number, or as text.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exitbench.errors import ExitbenchError
from exitbench.policies import ExitPolicy
from exitbench.policies.files import policy_from_json, read_policy
from exitbench.policies.schedule import Schedule
from exitbench.policies.static import FixedDepth

__all__ = ["exit_policy"]


def exit_policy(
    policy: str | ExitPolicy | None,
    *,
    threshold: float | str | None = None,
    probes: str | int | Sequence[int] | None = None,
    num_blocks: int,
) -> ExitPolicy:
    """The policy that is meant by arguments as they are typed.

    Args:
        policy: itself, its name, or a JSON file; None for one that never leaves.
        threshold: needed with a name; replaces that of a file.
        probes: as `Schedule.parse` reads them, or the depths themselves; replaces those of a file.
        num_blocks: L of the model.

    Raises:
        ExitbenchError: no such policy, or none that makes sense in a model of L blocks.
    """
    if isinstance(policy, ExitPolicy):
        return policy
    if policy is None:
        if threshold is not None or probes is not None:
            raise ExitbenchError("threshold and probes say how a policy leaves, and none was named; add policy=NAME")
        return FixedDepth(schedule=Schedule(depths=()))
    changes: dict[str, Any] = {} if threshold is None else {"threshold": threshold}
    if probes is not None:
        depths = [probes] if isinstance(probes, int | str) else probes
        changes["schedule"] = Schedule.parse(",".join(map(str, depths))).model_dump()
    if policy.endswith(".json"):
        saved = read_policy(Path(policy), num_blocks=num_blocks).to_json()
    elif threshold is None:
        raise ExitbenchError(
            f"policy {policy!r} needs a threshold, e.g. threshold=0.9, or a FILE.json with one; for the full model "
            "leave out the policy"
        )
    else:
        saved = {"policy": policy}
    return policy_from_json(saved | changes, num_blocks=num_blocks)
