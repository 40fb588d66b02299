"""The record of how hidden states change with depth: curves over one depth, and figures of two.

Means have 95 % bootstrap intervals over documents (on answers: prompts), as on the score card. A figure that does not
exist is None with a reason; one that exists without an interval says why in `no_interval`. Non-goals: computing
anything (see `measure`); whatever identifies the measurement, which belongs to whoever keeps the record.
"""

from pydantic import BaseModel, ConfigDict, model_validator

from exitbench.stats.figure import Curve
from exitbench.stats.reasoned import Reasoned

__all__ = ["Pairs", "Representation"]


class Pairs(BaseModel):
    """Figures of two depths, as parallel lists; None where a value, or its interval, does not exist."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    depth: list[int]
    other_depth: list[int]
    """Always the larger one."""
    value: list[float | None]
    low: list[float | None]
    high: list[float | None]

    @model_validator(mode="after")
    def _parallel(self) -> "Pairs":
        lengths = {name: len(values) for name, values in self}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the lists of pairs must be equally long, got {lengths}")
        return self


class Representation(Reasoned):
    """Hidden states by depth, after 0..L blocks and before the final norm, of the tokens that count.

    A hidden state of norm 0 has no direction: such a token is left out of the figures that need one.
    """

    seed: int
    draws: int
    """Bootstrap resamples behind every interval."""
    n_tokens: int
    n_prompts: int
    """Documents, or prompts with all their turns."""
    n_sequences: int
    """Documents, or turns."""
    hidden_size: int
    """D."""
    n_rank_tokens: int
    """Tokens drawn for the effective rank, which cannot be larger than this, nor than D; compare only equal numbers."""
    minibatch_tokens: int
    """Tokens in each minibatch of CKA."""
    n_minibatches: int

    cosine_previous: Curve
    """Mean cosine of the hidden states after d - 1 and d blocks, at depths 1..L."""
    block_influence: Curve
    """1 - cosine_previous: Block Influence of block d (ShortGPT, arXiv 2403.03853), at depths 1..L."""
    residual_norm: Curve
    """Mean Euclidean norm, at depths 0..L."""
    norm_growth: Curve
    """Mean norm over the mean norm one block earlier, at depths 1..L."""
    effective_rank: Curve
    """exp of the entropy of the normalised singular values (Roy and Vetterli, EUSIPCO 2007) of the drawn tokens' hidden
    states minus their mean, at depths 0..L."""
    anisotropy: Curve | None
    """Mean cosine of the hidden states of two tokens of different documents (Ethayarajh, arXiv 1909.00512), over
    all such pairs, at depths 0..L."""
    angular_distance: Pairs
    """arccos(cosine) / pi between depths d and d + n at the last counted token of each sequence, mean over sequences
    (Gromov et al., arXiv 2403.17887): how much n blocks from d on turn the hidden state, 0..1."""
    cka: Pairs | None
    """Linear centred kernel alignment between depths, from minibatches of tokens of disjoint documents (Nguyen, Raghu
    and Kornblith, arXiv 2010.15327, eq. 3, with the unbiased estimator of HSIC). 1: the same up to rotation and scale.
    Its interval is a bootstrap over the minibatches."""
    no_interval: dict[str, str]
    """Name of a figure -> why it has no interval."""
