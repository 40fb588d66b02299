"""Sums over the tokens of each document, from which every mean and its interval are made.

A document's sums take (L + 1) (D + L / 2) float64 numbers, 1.1 MB at D = 4096 and L = 32: the sum of unit vectors is
kept, so that cosines of tokens of different documents, in any resample of them, are products of sums.

Shapes: P documents, L blocks, R tokens, D hidden size, K pairs of depths.
"""

import numpy as np
from numpy.typing import NDArray

from exitbench.stats.bootstrap import Bootstrap, Estimate, ratio

__all__ = ["Sums", "depth_pairs"]

Floats = NDArray[np.float64]


def depth_pairs(num_depths: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(K,) smaller and (K,) larger depth of every pair of two."""
    first, second = np.triu_indices(num_depths, k=1)
    return first, second


class Sums:
    """What is added up, document by document.

    Args:
        num_documents: P.
        num_depths: L + 1.
        hidden_size: D.
    """

    def __init__(self, num_documents: int, num_depths: int, hidden_size: int) -> None:
        self.tokens = np.zeros(num_documents)
        """(P,)"""
        self._norms = np.zeros((num_documents, num_depths))
        self._units = np.zeros((num_documents, num_depths, hidden_size))
        self._directed = np.zeros((num_documents, num_depths))  # tokens with a direction
        self._cosines = np.zeros((num_documents, num_depths - 1))
        self._compared = np.zeros((num_documents, num_depths - 1))
        self._pairs = depth_pairs(num_depths)
        self._angles = np.zeros((num_documents, len(self._pairs[0])))
        self._turned = np.zeros((num_documents, len(self._pairs[0])))

    def add_depth(self, document: int, depth: int, hidden_RD: Floats, before_RD: Floats | None) -> Floats:
        """Add some tokens at one depth.

        Args:
            document: whose tokens they are.
            depth: blocks executed.
            hidden_RD: (R, D) their hidden states.
            before_RD: (R, D) what this returned for the same tokens one block earlier; None at depth 0.

        Returns:
            (R, D) unit vectors; 0 for hidden states without direction.
        """
        norms = np.sqrt(np.einsum("rd,rd->r", hidden_RD, hidden_RD))
        units = hidden_RD / np.where(norms > 0, norms, 1.0)[:, None]
        self._norms[document, depth] += norms.sum()
        self._units[document, depth] += units.sum(axis=0)
        self._directed[document, depth] += np.count_nonzero(norms)
        if before_RD is None:
            self.tokens[document] += len(norms)
        else:
            self._cosines[document, depth - 1] += np.einsum("rd,rd->", units, before_RD)
            self._compared[document, depth - 1] += np.count_nonzero((norms > 0) & before_RD.any(axis=1))
        return units

    def add_sequence(self, document: int, last_LD: Floats) -> None:
        """Add the last token of a sequence: (L + 1, D) unit vectors by depth."""
        first, second = self._pairs
        cosines = np.clip(last_LD @ last_LD.T, -1.0, 1.0)[first, second]
        has = np.asarray(last_LD.any(axis=1))
        both = has[first] & has[second]
        self._angles[document] += np.where(both, np.arccos(cosines) / np.pi, 0.0)
        self._turned[document] += both

    def cosine_previous(self, bootstrap: Bootstrap) -> Estimate:
        """(L,) mean cosine with one block earlier."""
        return self._mean(bootstrap, self._cosines, self._compared)

    def residual_norm(self, bootstrap: Bootstrap) -> Estimate:
        """(L + 1,) mean norm."""
        return bootstrap.mean(self._norms, self.tokens)

    def angular_distance(self, bootstrap: Bootstrap) -> Estimate:
        """(K,) mean angle over pi between the depths of each pair."""
        return self._mean(bootstrap, self._angles, self._turned)

    def anisotropy(self, bootstrap: Bootstrap) -> Estimate:
        """(L + 1,) mean cosine of tokens of different documents; NaN with one document.

        With S_p the sum of the unit vectors of document p and n_p their number, weights w give
            (|sum_p w_p S_p|^2 - sum_p w_p^2 |S_p|^2) / ((sum_p w_p n_p)^2 - sum_p w_p^2 n_p^2):
        copies of one document drawn twice are still the same document.
        """

        def statistic(weights: Floats) -> Floats:
            squared = weights**2
            columns = []
            for depth in range(self._units.shape[1]):
                products, counts = self._units[:, depth] @ self._units[:, depth].T, self._directed[:, depth]
                total = np.einsum("bp,bp->b", weights @ products, weights) - squared @ np.diag(products)
                columns.append(ratio(total, (weights @ counts) ** 2 - squared @ counts**2))
            return np.stack(columns, axis=-1)

        return bootstrap.estimate(statistic, self.tokens)

    def _mean(self, bootstrap: Bootstrap, totals: Floats, counts: Floats) -> Estimate:
        return bootstrap.estimate(lambda weights: ratio(weights @ totals, weights @ counts), self.tokens)
