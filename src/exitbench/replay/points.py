"""Operating points: what a policy saves, changes and costs where it is held to a target, as flat rows.

Everything is measured on prompts that chose neither the threshold nor what the policy learned, pooled over the folds.
The kinds of saving stand in columns of their own: blocks skipped, FLOPs and bytes net of probes and of the state of
skipped blocks, and projected time.

Shapes: N tokens, L blocks, P prompts.
"""

from collections.abc import Sequence

import numpy as np

from exitbench.replay.columns import COLUMNS
from exitbench.replay.crossfit import CrossFit
from exitbench.replay.hold import Bench, Held
from exitbench.replay.targets import Target
from exitbench.stats.bootstrap import Estimate, ratio
from exitbench.stats.compare import bootstrap_p, holm
from exitbench.stats.figure import Curve, Figure
from exitbench.stats.material import Material, Outcomes
from exitbench.stats.reasoned import Reasoned, with_reasons

__all__ = ["BATCH_SIZES", "OperatingPoint", "operating_points"]

BATCH_SIZES = (1, 4, 16, 64)
"""Rows in lockstep."""


class OperatingPoint(Reasoned):
    """One policy held to one target."""

    policy: str
    probes: str
    """Probe depths, as `Schedule.parse` reads them."""
    eps: float
    procedure: str
    """"bootstrap", or that of a certificate."""
    risk: str
    delta: float | None
    """Chance of a wrong promise."""
    thresholds: list[float | None] | None
    """One for each fold; None in it: nothing qualified, so no token leaves early."""
    probe_depths: list[list[int]] | None
    """Where each fold looked: what a schedule that learns has learned."""
    saved_blocks: Figure | None
    """Share of the blocks' work skipped."""
    disagreement: Figure | None
    """Share of tokens whose prediction at the exit is not the full model's, as really met."""
    answers_changed: Figure | None
    """Share of prompts with any such token."""
    detectability: Figure | None
    """saved_blocks over what an oracle skips that may err on a share eps of the tokens; for the risk "token" only."""
    exit_depth_mean: Figure | None
    net_flops_copy: Figure | None
    """Share of a token's FLOPs saved, net of probes and of the state that is copied forward."""
    net_bytes_deferred: Figure | None
    """Share of a token's bytes moved that is saved, net of probes, where skipped blocks run later in chunks."""
    net_time_deferred: Figure | None
    """Share of a token's projected time saved, with the same state strategy."""
    over_plain: Figure | None
    """saved_blocks minus that of the plain threshold on the same tokens."""
    over_plain_p: float | None
    """Two-sided bootstrap p-value of no difference, Holm-adjusted over the policies held to the same target."""
    batch: Curve | None
    """saved_blocks of rows in lockstep, by batch size: the deepest row of a batch decides."""


def operating_points(
    bench: Bench, policies: Sequence[Held], *, plain: Held, oracles: Sequence[Estimate]
) -> list[OperatingPoint]:
    """Turn exits into rows, target by target.

    Args:
        bench: what the policies share.
        policies: among them the plain threshold.
        plain: the plain threshold, with which the others are compared.
        oracles: for each target, what an oracle skips that may err on a share eps of the tokens.
    """
    points = []
    for i, (target, oracle) in enumerate(zip(bench.targets, oracles, strict=True)):
        compared = _compared(bench.material, policies, plain, i)
        for number, policy in enumerate(policies):
            outcome = policy.outcomes[i]
            outcomes = (
                dict.fromkeys(_MEASURED, outcome)
                if isinstance(outcome, str)
                else _measured(bench, target, outcome, oracle) | compared.get(number, _NOT_COMPARED)
            )
            points.append(_row(policy, target, outcomes))
    return points


_NOT_COMPARED: Outcomes = dict.fromkeys(("over_plain", "over_plain_p"), "it is what the others are compared with")


def _compared(material: Material, policies: Sequence[Held], plain: Held, i: int) -> dict[int, Outcomes]:
    """Differences to the plain threshold at target i, by the number of the policy."""
    reference = plain.outcomes[i]
    if isinstance(reference, str):
        return {}
    differences = {
        number: material.mean(outcome.values[:, 0] - reference.values[:, 0])
        for number, policy in enumerate(policies)
        if policy is not plain and not isinstance(outcome := policy.outcomes[i], str)
    }
    adjusted = holm([bootstrap_p(difference.resamples) for difference in differences.values()])
    return {
        number: {"over_plain": difference.figure(), "over_plain_p": p}
        for (number, difference), p in zip(differences.items(), adjusted, strict=True)
    }


def _measured(bench: Bench, target: Target, outcome: CrossFit, oracle: Estimate) -> Outcomes:
    material, depth = bench.material, outcome.exit_depth
    wrong = ~material.agrees_at(depth)
    changed = (material.prompts.sums(wrong) > 0).astype(np.float64)
    savings = material.mean(outcome.values[:, 0])
    left = material.mean(depth[:, None] <= np.arange(material.trace.num_blocks))
    costs = np.asarray(material.trace.manifest.shape.block_costs)
    batch = left.map(lambda share: np.stack([share**size @ costs for size in BATCH_SIZES], axis=-1))
    net = {
        name: bench.costs.reasons.get(column)
        or material.mean(outcome.values[:, COLUMNS.index(column)]).figure()
        or "the profile has no time for what this policy looks at"
        for name, column in _NET.items()
    }
    return net | {
        "probe_depths": [
            policy.schedule.at(material.trace.num_blocks).tolist() if policy.signals else []
            for policy in outcome.policies
        ],
        "thresholds": [policy.threshold for policy in outcome.policies],
        "saved_blocks": savings.figure(),
        "disagreement": material.figure(wrong),
        "answers_changed": material.bootstrap.estimate(
            lambda weights: ratio(weights @ changed, weights.sum(axis=1)), material.prompts.counts()
        ).figure(),
        "detectability": (
            savings.map(ratio, oracle).figure() or "the oracle saves nothing"
            if target.risk == "token"
            else f"its oracle may err on a share of the tokens, the risk here is of the {target.risk}"
        ),
        "exit_depth_mean": material.figure(depth),
        "batch": batch.curve("batch", BATCH_SIZES),
    }


_NET = {f"net_{column}": column for column in COLUMNS[1:]}
_MEASURED = (
    *(
        "thresholds",
        "probe_depths",
        "saved_blocks",
        "disagreement",
        "answers_changed",
        "detectability",
        "exit_depth_mean",
    ),
    *_NET,
    *("over_plain", "over_plain_p", "batch"),
)


def _row(policy: Held, target: Target, outcomes: Outcomes) -> OperatingPoint:
    promise = target.delta if target.procedure in ("fixed-sequence", "bonferroni") else f"{target.procedure} has none"
    fields = {
        "policy": policy.name,
        "probes": policy.probes,
        "eps": target.eps,
        "procedure": target.procedure,
        "risk": target.risk,
    }
    return OperatingPoint.model_validate(fields | with_reasons({"delta": promise} | outcomes))
