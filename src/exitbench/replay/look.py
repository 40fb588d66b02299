"""What a policy would have seen of a trace.

Shapes: N tokens, K probe depths, L blocks.
"""

import numpy as np
from numpy.typing import NDArray

from exitbench.errors import TraceError
from exitbench.policies.policy import Calibration, ExitPolicy, Floats, Seen
from exitbench.trace.table import Trace

__all__ = ["calibration_of", "look", "require_same_model"]


def look(trace: Trace, policy: ExitPolicy) -> Seen:
    """Show every token of a trace to a policy, at all its probe depths.

    Raises:
        TraceError: the trace lacks a signal that the policy looks at; says how to record it.
    """
    missing = [name for name in policy.signals if name not in trace.signals]
    if missing:
        raise TraceError(
            f"policy {policy.name!r} looks at {', '.join(missing)}, which the trace lacks; "
            + _how_to_record(trace, missing)
        )
    depths = policy.schedule.at(trace.num_blocks)
    settings = trace.manifest.settings
    return Seen(
        depths=depths,
        num_blocks=trace.num_blocks,
        answer_position=trace.answer_position,
        answer_limit=settings.max_new_tokens or settings.document_tokens or 1,
        signals={name: trace.signals[name][:, depths] for name in policy.signals},
    )


def _how_to_record(trace: Trace, names: list[str]) -> str:
    if trace.manifest.settings.recorded == "decisions":
        return "it was made with --fast: trace again without it"
    model, workload = trace.manifest.model.source, trace.manifest.workload.name
    also = " ".join(f"--also {name}" for name in names)
    return f"record it with 'exitbench trace {model} --workload {workload} {also} --out NEW_DIR'"


def calibration_of(
    trace: Trace, policy: ExitPolicy, *, keep: NDArray[np.bool_], rho: Floats, probe_cost: float
) -> Calibration:
    """Some tokens of a trace as a policy may be fitted on them.

    Args:
        trace: what was recorded.
        policy: at whose probe depths.
        keep: (N,) which tokens.
        rho: (L + 1,) share of the blocks' work behind each depth.
        probe_cost: of one failed probe, in the unit of `rho`.
    """
    seen, top1_id = look(trace, policy).rows(keep), trace.top1_id[keep]
    decided = np.bincount(trace.decision_depth[keep], minlength=trace.num_blocks + 1).cumsum() / max(keep.sum(), 1)
    return Calibration(
        seen=seen,
        agrees=top1_id[:, seen.depths] == top1_id[:, -1:],
        decided=decided,
        rho=rho,
        probe_cost=probe_cost,
        weights_sha256=trace.manifest.model.weights_sha256,
    )


def require_same_model(trace: Trace, policy: ExitPolicy) -> None:
    """Refuse a policy that was fitted on another model than the trace is of.

    Raises:
        TraceError: their weights have different hashes.
    """
    there = trace.manifest.model.weights_sha256
    if policy.fitted_on is not None and policy.fitted_on != there:
        raise TraceError(
            f"policy {policy.name!r} was fitted on a model with weights {policy.fitted_on[:12]}, the trace is of "
            f"{trace.manifest.model.name} with weights {there[:12]}; fit it on a trace of that model"
        )
