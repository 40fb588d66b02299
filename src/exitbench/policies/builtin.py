"""The registry of policies, with the published criteria; packages add theirs by the group `exitbench.policies`."""

from exitbench.policies.agreement import HiddenSaturation, KlToPrevious, Patience
from exitbench.policies.confidence import DecayingThreshold, Entropy, Margin, TopProbability
from exitbench.policies.oracle import FirstMatch, Oracle, Stable
from exitbench.policies.policy import ExitPolicy
from exitbench.policies.static import FixedDepth, PositionSchedule
from exitbench.policies.trained import Gate, PerDepthThresholds
from exitbench.registry import Registry

__all__ = ["ORACLES", "POLICIES"]

POLICIES: Registry[type[ExitPolicy]] = Registry("policy", plural="policies")
ORACLES: tuple[type[Oracle], ...] = (FirstMatch, Stable)

for _policy in (
    *(FixedDepth, TopProbability, Margin, Entropy, HiddenSaturation, KlToPrevious, Patience),
    *(DecayingThreshold, PerDepthThresholds, PositionSchedule, Gate),
):
    POLICIES.add(_policy.name, _policy)
