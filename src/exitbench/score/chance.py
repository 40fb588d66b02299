"""EES_null: the suitability that agreement by chance alone would give, in closed form.

A model that answers "the" everywhere agrees with itself without having decided anything. The null pairs each
token's final prediction with the earlier predictions of a token from another prompt: over all such pairs (t,
u), the mean of 1[y_t = v_u] rho(s_u), with y_t the final top-1 of t, v_u the top-1 of u at depth L - 1 and
s_u the start of v_u's last constant run below L.

Summing over pairs of tokens would be quadratic; summing over token ids first is not. With Y[p, v] the tokens
of prompt p whose final top-1 is v and R[p, v] the sum of rho(s_u) over its tokens with v_u = v, weights w
give
    numerator   (w Y) . (w R)  - sum_p w_p^2 (Y_p . R_p)
    denominator (w n)^2        - sum_p w_p^2 n_p^2,
where the subtracted terms are the pairs inside a prompt; copies of one prompt drawn twice are still the same
prompt.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from exitbench.stats.bootstrap import Bootstrap, Estimate, Prompts, ratio
from exitbench.trace.decided import final_run
from exitbench.trace.decision import Ids

__all__ = ["corrected_for_chance", "null_suitability"]

_DRAWS_AT_ONCE = 250  # bounds the dense (draws, distinct tokens) products to a few dozen MiB
_NO_ROOM = 1e-9

Floats = NDArray[np.float64]


def null_suitability(top1_id: Ids, rho: Floats, prompts: Prompts, bootstrap: Bootstrap) -> Estimate:
    """Estimate EES_null; NaN where no two tokens come from different prompts.

    Args:
        top1_id: (N, L + 1) top-1 token by depth.
        rho: (L + 1,) share of the work behind each depth.
        prompts: how the N rows fall into prompts.
        bootstrap: resamples of the prompts; the null is computed anew in each.
    """
    final_PV, before_PV = _by_token(top1_id, rho, prompts)
    tokens = prompts.counts()
    inside = np.asarray(final_PV.multiply(before_PV).sum(axis=1)).reshape(-1)

    def chunk(weights: Floats) -> Floats:
        everywhere = np.einsum("bv,bv->b", weights @ final_PV, weights @ before_PV)
        squared = weights**2
        pairs = (weights @ tokens) ** 2 - squared @ tokens**2
        # Rounding may leave a hair of a negative sum where the exact one is 0.
        return ratio(np.maximum(everywhere - squared @ inside, 0.0), pairs)

    def statistic(weights: Floats) -> Floats:
        starts = range(0, len(weights), _DRAWS_AT_ONCE)
        return np.concatenate([chunk(weights[start : start + _DRAWS_AT_ONCE]) for start in starts])

    return bootstrap.estimate(statistic, tokens)


def corrected_for_chance(ees: Estimate, null: Estimate) -> Estimate:
    """Return EES* = (EES - EES_null) / (1 - EES_null), paired over resamples; NaN where the null is 1."""

    def star(plain: Floats, chance: Floats) -> Floats:
        # A null of 1 up to rounding would turn the rounding into a score.
        room = np.where(1 - chance > _NO_ROOM, 1 - chance, 0.0)
        return ratio(plain - chance, room)

    return ees.map(star, null)


def _by_token(top1_id: Ids, rho: Floats, prompts: Prompts) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Return Y and R over the token ids that occur on both sides (others never match)."""
    final = top1_id[:, -1]
    before, start = final_run(top1_id)
    shared = np.intersect1d(final, before)
    shape = (prompts.num_prompts, len(shared))

    def table(ids: Ids, values: Floats) -> sparse.csr_array:
        keep = np.isin(ids, shared)
        cells = (prompts.row_prompt[keep], np.searchsorted(shared, ids[keep]))
        return sparse.csr_array((values[keep], cells), shape=shape)

    return table(final, np.ones(len(final))), table(before, rho[start])
