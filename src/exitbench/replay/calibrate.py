"""Policies made ready for use: fitted and calibrated on all prompts of a trace.

What such a policy saves and changes must be taken from a replay, whose thresholds never saw the prompts they are judged
on. This is the policy that one would then run.
"""

from collections.abc import Iterator, Sequence

from exitbench.policies import ExitPolicy
from exitbench.replay.assemble import ReplayOptions, bench_of
from exitbench.replay.hold import ready
from exitbench.replay.look import require_same_model
from exitbench.replay.targets import Target
from exitbench.trace.table import Trace

__all__ = ["calibrate"]


def calibrate(
    trace: Trace, policies: Sequence[ExitPolicy], options: ReplayOptions
) -> Iterator[tuple[ExitPolicy, Target, ExitPolicy]]:
    """Choose the threshold of every policy for every target; targets for which there are too few prompts are left out.

    Args:
        trace: with signals.
        policies: uncalibrated.
        options: what they are held to.

    Yields:
        The policy as it was given, the target, and the policy ready for use.

    Raises:
        TraceError: what `replay` refuses.
    """
    bench = bench_of(trace, policies, options)
    for policy in policies:
        require_same_model(trace, policy)
        for target, calibrated in zip(bench.targets, ready(bench, policy), strict=True):
            if calibrated is not None:
                yield policy, target, calibrated
