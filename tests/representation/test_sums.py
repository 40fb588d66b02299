"""Sums by document: means of cosines, norms and angles, against all tokens at once."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitbench.representation.sums import Sums, depth_pairs
from exitbench.stats.bootstrap import Bootstrap, draw_weights


def _summed(documents, pieces=1):
    """Sums of documents (L + 1, R, D), each added in so many pieces."""
    num_depths, _, size = documents[0].shape
    sums = Sums(len(documents), num_depths, size)
    for number, document in enumerate(documents):
        for piece in np.array_split(document, pieces, axis=1):
            units = None
            for depth, hidden in enumerate(piece):
                units = sums.add_depth(number, depth, hidden, units)
        norms = np.linalg.norm(document[:, -1], axis=-1, keepdims=True)
        sums.add_sequence(
            number, np.divide(document[:, -1], norms, out=np.zeros_like(document[:, -1]), where=norms > 0)
        )
    return sums


def _as_they_are(documents):
    return Bootstrap(weights=np.ones((1, len(documents))))


def _documents(seed=0, counts=(3, 5, 1), num_depths=4, size=6):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(num_depths, n, size)) + 0.5 for n in counts]


def _cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_means_are_over_all_tokens():
    """A mean of documents' means, or cosines of the wrong two depths."""
    documents = _documents()
    sums, bootstrap = _summed(documents), _as_they_are(documents)
    tokens = np.concatenate(documents, axis=1)
    cosines = [np.mean([_cosine(a, b) for a, b in zip(*tokens[d - 1 : d + 1], strict=True)]) for d in range(1, 4)]
    assert sums.cosine_previous(bootstrap).value == pytest.approx(cosines)
    assert sums.residual_norm(bootstrap).value == pytest.approx(np.linalg.norm(tokens, axis=-1).mean(axis=1))
    angles = [
        np.mean([np.arccos(_cosine(document[d, -1], document[e, -1])) / np.pi for document in documents])
        for d, e in zip(*depth_pairs(4), strict=True)
    ]
    assert sums.angular_distance(bootstrap).value == pytest.approx(angles)


def test_anisotropy_is_over_pairs_of_different_documents():
    """A token compared with itself, or with its own neighbours, whose likeness says nothing of the space."""
    documents = _documents()
    owner = np.repeat([0, 1, 2], [3, 5, 1])
    tokens = np.concatenate(documents, axis=1)
    pairs = [(i, j) for i, j in product(range(9), repeat=2) if owner[i] != owner[j]]
    expected = [np.mean([_cosine(hidden[i], hidden[j]) for i, j in pairs]) for hidden in tokens]
    assert _summed(documents).anisotropy(_as_they_are(documents)).value == pytest.approx(expected)


def test_anisotropy_of_a_resample_compares_no_document_with_its_copy():
    """An interval that lies above its own value: in nearly every resample a document meets itself."""
    documents = _documents(1, counts=(2,) * 12, num_depths=1, size=4000)
    weights = draw_weights(["a"] * 12, draws=200, rng=np.random.default_rng(0))
    estimate = _summed(documents).anisotropy(Bootstrap(weights=weights))
    assert estimate.resamples.mean() == pytest.approx(estimate.value[0], abs=0.005)
    assert estimate.value[0] < 0.25


def test_closed_forms():
    """Blocks that do nothing with an influence, equal tokens with more than one direction, growth that is not there."""
    rng = np.random.default_rng(3)
    first = rng.normal(size=(2, 7, 5))
    identity = [np.stack([h, h, 3 * h, -h]) for h in first]
    sums, bootstrap = _summed(identity), _as_they_are(identity)
    assert sums.cosine_previous(bootstrap).value == pytest.approx([1, 1, -1])
    assert sums.angular_distance(bootstrap).value == pytest.approx([0, 0, 1, 0, 1, 1], abs=1e-7)
    norm = sums.residual_norm(bootstrap).value
    assert norm / norm[0] == pytest.approx([1, 1, 3, 1])
    constant = [np.broadcast_to(rng.normal(size=(2, 1, 5)), (2, 7, 5))] * 3
    assert _summed(constant).anisotropy(_as_they_are(constant)).value == pytest.approx([1, 1])
    opposite = [constant[0], -constant[0]]
    assert _summed(opposite).anisotropy(_as_they_are(opposite)).value == pytest.approx([-1, -1])


def test_hidden_states_without_direction_are_left_out():
    """A padding embedding of zeros that counts as orthogonal to everything: missing is not 0."""
    documents = _documents()
    documents[0][1, 0] = 0
    documents[1][0, -1] = 0
    sums, bootstrap = _summed(documents), _as_they_are(documents)
    tokens = np.concatenate(documents, axis=1)
    cosines = [_cosine(a, b) for a, b in zip(tokens[0], tokens[1], strict=True) if a.any() and b.any()]
    assert len(cosines) == 7
    assert sums.cosine_previous(bootstrap).value[0] == pytest.approx(np.mean(cosines))
    angles = [np.arccos(_cosine(documents[n][0, -1], documents[n][1, -1])) / np.pi for n in (0, 2)]
    assert sums.angular_distance(bootstrap).value[0] == pytest.approx(np.mean(angles))
    assert sums.residual_norm(bootstrap).value[1] == pytest.approx(np.linalg.norm(tokens[1], axis=-1).mean())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), pieces=st.integers(2, 4), scale=st.floats(1e-3, 1e3))
def test_sums_do_not_depend_on_how_tokens_are_cut_or_scaled(seed, pieces, scale):
    """A mean of pieces' means, or a direction that depends on the length."""
    documents = _documents(seed, counts=(5, 4, 8))
    scaled = [scale * document for document in documents]
    bootstrap = Bootstrap(weights=draw_weights(["a"] * 3, draws=5, rng=np.random.default_rng(seed)))
    whole, cut = _summed(documents), _summed(scaled, pieces)
    for name in ("cosine_previous", "angular_distance", "anisotropy"):
        one, other = getattr(whole, name)(bootstrap), getattr(cut, name)(bootstrap)
        np.testing.assert_allclose(other.value, one.value, atol=1e-7)
        np.testing.assert_allclose(other.resamples, one.resamples, atol=1e-7)
        assert np.nanmax(np.abs(one.value)) <= 1
    np.testing.assert_allclose(cut.residual_norm(bootstrap).value, scale * whole.residual_norm(bootstrap).value)
