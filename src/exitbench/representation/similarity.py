"""What needs many tokens side by side: CKA between depths, and the effective rank of each.

Both are made from a sample of tokens, whatever D is: the products of a minibatch take (L + 1) m^2 numbers where
covariances would take (L + 1) D^2, 4.4 GB at D = 4096 and L = 32.

Shapes: L blocks, N or M tokens, D hidden size, G minibatches. All in float64.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["centred", "cka_ratio", "effective_rank", "unbiased_products"]

Floats = NDArray[np.float64]

_CONSTANT = 1e-24
"""Share of the squared norm that is left of equal rows by rounding, at most; float32 resolves 4e-15."""


def centred(hidden_ND: Floats) -> Floats:
    """Hidden states minus their mean; exactly 0 where they are all equal but for rounding."""
    rest = hidden_ND - hidden_ND.mean(axis=0)
    return np.zeros_like(rest) if np.vdot(rest, rest) <= _CONSTANT * np.vdot(hidden_ND, hidden_ND) else rest


def unbiased_products(by_depth: Iterable[Floats]) -> Floats:
    """Return the unbiased HSIC between all pairs of depths, from one minibatch.

    It is the inner product of U-centred kernel matrices (Szekely and Rizzo, Annals of Statistics 42, 2014), which is
    HSIC_1 of Song et al. (JMLR 13, 2012), eq. 3 of arXiv 2010.15327, and never makes a CKA larger than 1.

    Args:
        by_depth: L + 1 arrays (M, D), at least 4 tokens.

    Returns:
        (L + 1, L + 1) products, symmetric.
    """
    kernels = np.stack([_u_centred(hidden_MD) for hidden_MD in by_depth])
    num_tokens, flat = kernels.shape[1], kernels.reshape(len(kernels), -1)
    assert num_tokens >= 4, num_tokens
    return np.asarray(flat @ flat.T / (num_tokens * (num_tokens - 3)))


def _u_centred(hidden_MD: Floats) -> Floats:
    """(M, M) linear kernel with each row's mean over the other tokens taken out, and 0 on its diagonal."""
    rows = centred(hidden_MD)  # changes nothing but the rounding
    kernel, n = rows @ rows.T, len(rows)
    np.fill_diagonal(kernel, 0.0)
    sums = kernel.sum(axis=0)
    kernel -= (sums[:, None] + sums) / (n - 2)
    kernel += sums.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(kernel, 0.0)
    return np.asarray(kernel)


def cka_ratio(weights: Floats, products_GLL: Floats, first: NDArray[Any], second: NDArray[Any]) -> Floats:
    """Return CKA of pairs of depths: sums of HSIC over minibatches, divided; NaN where a depth does not vary.

    Args:
        weights: (B, G) how often each minibatch was drawn.
        products_GLL: (G, L + 1, L + 1) from `unbiased_products`.
        first: (K,) one depth of each pair.
        second: (K,) the other.

    Returns:
        (B, K) alignments.
    """
    own = weights @ np.diagonal(products_GLL, axis1=1, axis2=2)
    norms = np.sqrt(own[:, first] * own[:, second])
    result = np.full(norms.shape, np.nan)
    np.divide(weights @ products_GLL[:, first, second], norms, out=result, where=norms > 0)
    return result


def effective_rank(hidden_ND: Floats) -> float:
    """Return exp of the entropy of the normalised singular values of centred hidden states; NaN where all are equal.

    Singular values are roots of the eigenvalues of the smaller Gram matrix; those within its rounding are 0.

    Args:
        hidden_ND: (N, D), one row a token.

    Source: Roy and Vetterli, "The effective rank", EUSIPCO 2007, definition 1.
    """
    rows = centred(hidden_ND)
    gram = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
    eigenvalues = np.linalg.eigvalsh(gram)
    largest = eigenvalues[-1]
    if largest <= 0:
        return float("nan")
    kept = eigenvalues[eigenvalues > len(gram) * np.finfo(np.float64).eps * largest]
    shares = np.sqrt(kept) / np.sqrt(kept).sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))
