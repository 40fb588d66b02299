"""The frontier: what a policy saves at each threshold of its grid, and how many tokens it changes.

In sample, no prompts are held out: a picture of the trade, not a result. Operating points are cross-fitted.
"""

import numpy as np
from pydantic import BaseModel, ConfigDict

from exitbench.policies.policy import ExitPolicy, Floats
from exitbench.replay.look import look
from exitbench.replay.sweep import sweep
from exitbench.stats.figure import Curve
from exitbench.stats.material import Material

__all__ = ["Frontier", "frontier"]


class Frontier(BaseModel):
    """Savings and disagreement of one policy along its thresholds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    savings: Curve
    """Share of the blocks' work skipped, by threshold."""
    disagreement: Curve
    """Share of tokens whose exit prediction differs from the full model's, by threshold."""


def frontier(material: Material, policy: ExitPolicy) -> Frontier:
    """Replay a policy on all tokens at every threshold of its grid.

    Args:
        material: of a trace with the signals that the policy looks at.
        policy: with nothing left to learn.
    """
    assert not policy.learns, f"policy {policy.name!r} has to be fitted first"
    seen, grid = look(material.trace, policy), policy.grid(material.trace.num_blocks)
    totals = sweep(policy.scores(seen), seen.depths, material.agrees, material.rho[:, None], material.prompts, grid)

    def curve(sums: Floats) -> Curve:
        return material.bootstrap.mean(sums, totals.tokens).curve("threshold", grid.tolist())

    return Frontier(
        savings=curve(np.ascontiguousarray(totals.values[..., 0])), disagreement=curve(totals.disagreements)
    )
