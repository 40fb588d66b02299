"""CKA and effective rank, against their definitions on all data and in closed form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from exitbench.representation.similarity import centred, cka_ratio, effective_rank, unbiased_products


def _hsic(x, y):
    """Eq. 3 of arXiv 2010.15327, letter by letter."""
    n, one = len(x), np.ones(len(x))
    k, m = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    middle = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return (np.trace(k @ m) + middle - 2 / (n - 2) * one @ k @ m @ one) / (n * (n - 3))


def _cka(*by_depth, minibatches=1):
    parts = [np.split(hidden, minibatches) for hidden in by_depth]
    products = np.stack([unbiased_products(list(part)) for part in zip(*parts, strict=True)])
    pair = np.array([0]), np.array([1])
    return cka_ratio(np.ones((1, minibatches)), products, *pair)[0, 0]


@pytest.mark.parametrize("minibatches", [1, 4])
def test_is_the_published_estimator(minibatches):
    """A biased HSIC, whose CKA of unrelated depths is far above 0 when a minibatch is small."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6)) + 3, rng.normal(size=(40, 9))
    y[:, :6] += x**2

    def total(a, b):
        return sum(_hsic(p, q) for p, q in zip(np.split(a, minibatches), np.split(b, minibatches), strict=True))

    expected = total(x, y) / np.sqrt(total(x, x) * total(y, y))
    assert _cka(x, y, minibatches=minibatches) == pytest.approx(expected, rel=1e-10)


def test_tends_to_plain_cka():
    """Another quantity than linear CKA, which it estimates: ||Y'X||^2 / (||X'X|| ||Y'Y||) of centred data."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1500, 4)) * [3, 2, 1, 1]
    y = x @ rng.normal(size=(4, 5)) + 0.5 * rng.normal(size=(1500, 5))
    a, b = x - x.mean(0), y - y.mean(0)
    plain = np.sum((b.T @ a) ** 2) / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))
    assert _cka(x, y) == pytest.approx(plain, abs=0.01)
    assert _cka(x, y, minibatches=30) == pytest.approx(plain, abs=0.02)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), scale=st.floats(1e-3, 1e3), n=st.integers(4, 12))
def test_cka_is_blind_to_rotation_scale_and_shift(seed, scale, n):
    """A similarity that changes when the basis of the residual stream does, or that leaves -1..1."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, 5)), rng.normal(size=(n, 7))
    rotated = scale * x @ ortho_group.rvs(5, random_state=seed) + rng.normal(size=5)
    assert _cka(x, rotated) == pytest.approx(1, abs=1e-6)
    assert _cka(x, y) == pytest.approx(_cka(rotated, y), abs=1e-6)
    assert _cka(x, y) == pytest.approx(_cka(y, x), abs=1e-12)
    assert abs(_cka(x, y)) <= 1 + 1e-9


def test_nothing_that_varies_has_no_similarity():
    """Rounding errors of equal rows compared with one another, and a number made of them."""
    rng = np.random.default_rng(2)
    assert np.isnan(_cka(np.full((8, 3), 0.1) * [1, 7, 1e3], rng.normal(size=(8, 3))))
    assert np.isnan(effective_rank(np.full((8, 3), 0.1)))
    assert not centred(np.full((8, 3), 0.1)).any()


def _rank_by_svd(x):
    values = np.linalg.svd(x - x.mean(0), compute_uv=False)
    shares = values[values > 0] / values.sum()
    return np.exp(-(shares * np.log(shares)).sum())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), n=st.integers(2, 30), d=st.integers(2, 30))
def test_effective_rank_is_that_of_the_singular_values(seed, n, d):
    """Eigenvalues taken for singular values, or a rank above what the data can have."""
    x = np.random.default_rng(seed).normal(size=(n, d)) * np.logspace(0, 3, d) + 5
    rank = effective_rank(x)
    assert rank == pytest.approx(_rank_by_svd(x), rel=1e-4)
    assert 1 - 1e-9 <= rank <= min(n - 1, d) + 1e-9


def test_effective_rank_in_closed_form():
    """Isotropic data of rank D, and data on a line, whatever the number of dimensions around it."""
    isotropic = np.vstack([np.eye(5), -np.eye(5)])
    assert effective_rank(isotropic) == pytest.approx(5)
    line = np.outer(np.arange(40.0), np.arange(1.0, 9.0))
    assert effective_rank(line + 1e3) == pytest.approx(1, abs=1e-6)
    two = np.vstack([np.diag([3.0, 1.0]), -np.diag([3.0, 1.0])])
    assert effective_rank(two) == pytest.approx(np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))))
