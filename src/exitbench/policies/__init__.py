"""Exit policies: what a running model may look at to stop a token early, and the published criteria."""

from exitbench.policies.builtin import POLICIES
from exitbench.policies.files import policy_from_json, read_policy, write_policy
from exitbench.policies.policy import Calibration, ExitPolicy, Seen
from exitbench.policies.schedule import Schedule

__all__ = [
    "POLICIES",
    "Calibration",
    "ExitPolicy",
    "Schedule",
    "Seen",
    "policy_from_json",
    "read_policy",
    "write_policy",
]
