"""From model arguments as they are typed to an exit policy.

The harness splits arguments at commas and reads values as Python where it can, so that probe depths arrive as a list,
as one number, or as text.
"""

from collections.abc import Sequence

from exitbench.errors import ExitbenchError
from exitbench.policies import ExitPolicy, Schedule
from exitbench.policies.named import policy_to_decode
from exitbench.policies.static import FixedDepth

__all__ = ["exit_policy"]


def exit_policy(
    policy: str | ExitPolicy | None,
    *,
    num_blocks: int,
    threshold: float | str | None = None,
    probes: str | int | Sequence[int] | None = None,
) -> ExitPolicy:
    """The policy that is meant.

    Args:
        policy: itself, its name, or a JSON file; None for one that never leaves.
        num_blocks: L of the model that it is for.
        threshold: needed with a name; replaces that of a file.
        probes: as `Schedule.parse` reads them, or the depths themselves; replaces those of a file.

    Raises:
        ExitbenchError: no such policy, or none that makes sense in this model.
    """
    if not isinstance(policy, str):
        if threshold is not None or probes is not None:
            raise ExitbenchError("threshold and probes go with a policy by name or file; add policy=NAME")
        return FixedDepth(schedule=Schedule(depths=())) if policy is None else policy
    try:
        number = None if threshold is None else float(threshold)
    except ValueError as error:
        raise ExitbenchError(f"threshold is {threshold!r}, expected a number") from error
    text = str(probes) if isinstance(probes, int | str) else None if probes is None else ",".join(map(str, probes))
    return policy_to_decode(policy, num_blocks=num_blocks, threshold=number, probes=text)
