"""Lazy decisions against the definition, to the last bit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from definition import decisions
from exitbench.models.adapter import ModelAdapter
from exitbench.models.readout import Readout
from exitbench.models.toy import toy_model
from exitbench.signals.lazy import LazyDecisions
from families import FAMILIES


class _Embedded:
    """Hidden states that are logits already, of which some can be picked; counts what is asked for."""

    def __init__(self, logits, *, picks_tokens=True):
        self.vocab_size, self.dtype, self.picks_tokens = logits.shape[-1], logits.dtype, picks_tokens
        self.num_full = self.num_short = 0

    def features(self, hidden):
        return hidden

    def logits(self, features, tokens=None):
        if tokens is None:
            self.num_full += len(features)
            return features
        assert self.picks_tokens
        self.num_short += len(features)
        return features[:, tokens].contiguous()


def _assert_same(got, want):
    assert np.array_equal(got.final_id, want.final_id)
    assert np.array_equal(got.decision_depth, want.decision_depth)
    assert got.final_id.dtype == got.decision_depth.dtype == np.int32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_toy_models(family, dtype):
    """A depth skipped, a token lost on the way down, or a rival that would not win among all."""
    adapter = ModelAdapter(toy_model(family, dtype=dtype))
    lazy = LazyDecisions(Readout(adapter))
    for seed in range(3):
        ids = torch.randint(259, (1, 40), generator=torch.Generator().manual_seed(seed))
        hidden = adapter.capture(ids)
        _assert_same(lazy(hidden), decisions(hidden, adapter.readout))


def _settling(rng, *, depths, rows, vocabulary, dtype, coarse):
    """Logits whose top-1 tends to settle with depth, and ties where they are rounded coarsely."""
    final = torch.from_numpy(rng.normal(size=(rows, vocabulary)).astype(np.float32))
    noise = torch.from_numpy(rng.normal(size=(depths, rows, vocabulary)).astype(np.float32))
    share = torch.linspace(0, 1, depths)[:, None, None]
    logits = share * final + (1 - share) * noise
    return (logits.mul(2).round() if coarse else logits).to(dtype)


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    depths=st.integers(2, 9),
    rows=st.integers(1, 40),
    vocabulary=st.integers(2, 40),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    coarse=st.booleans(),
    picks_tokens=st.booleans(),
    memory=st.sampled_from([1, 300, 10**6]),
)
def test_any_logits(seed, depths, rows, vocabulary, dtype, coarse, picks_tokens, memory):
    """A tie broken otherwise than to the lowest id, a chunk's border, or the last of the depths."""
    rng = np.random.default_rng(seed)
    sizes = {"depths": depths, "rows": rows, "vocabulary": vocabulary}
    lazy = None
    for _ in range(2):  # the second time with rivals known from the first
        logits = _settling(rng, **sizes, dtype=dtype, coarse=coarse)
        readout = _Embedded(logits, picks_tokens=picks_tokens)
        lazy = lazy or LazyDecisions(readout)
        lazy._readout = readout
        _assert_same(lazy(logits, memory=memory), decisions(logits, lambda rows: rows))


def test_thousands_of_tokens_with_ties():
    """What only happens once in a thousand rows: 6 % of bfloat16 rows tie at the top."""
    logits = _settling(np.random.default_rng(0), depths=8, rows=4000, vocabulary=300, dtype=torch.bfloat16, coarse=True)
    best = logits.float().topk(2).values
    assert (best[..., 0] == best[..., 1]).float().mean() > 0.1
    _assert_same(LazyDecisions(_Embedded(logits))(logits), decisions(logits, lambda rows: rows))


def test_no_more_is_read_out_than_must_be():
    """A lazy engine that reads out every depth, or asks the whole vocabulary where a known rival would do."""
    logits = _settling(np.random.default_rng(1), depths=31, rows=500, vocabulary=50, dtype=torch.float32, coarse=False)
    readout = _Embedded(logits)
    lazy = LazyDecisions(readout)
    lazy(logits)  # gets to know the rivals
    readout.num_full = 0
    decided = lazy(logits)
    agreements = (30 - decided.decision_depth).sum()
    assert 0 < agreements < 500 * 15
    assert readout.num_full == 500 + agreements, "the final readout, and one proof for each agreement"


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_not_a_number_agrees_with_nothing(number, depth):
    """The top-1 of a row of NaN, which is a token like any other, counted as agreement at that depth."""
    logits = torch.zeros(3, 20, 300)
    logits[:, :, 7] = 1
    logits[depth, 4, 7] = number
    for decided in (LazyDecisions(_Embedded(logits))(logits), decisions(logits, lambda rows: rows)):
        assert decided.not_finite > 0
        expected = {0: 1, 1: 2, 2: 2}[depth]
        assert decided.decision_depth.tolist() == [0] * 4 + [expected] + [0] * 15
        assert (decided.final_id[4] == -1) == (depth == 2)


def test_a_tie_with_a_lower_id_is_a_loss():
    """Agreement claimed where the final token only shares the top with one that comes before it."""
    logits = torch.zeros(2, 1, 10)
    logits[1, 0, 5] = 1.0
    logits[0, 0, [3, 5]] = 1.0
    assert LazyDecisions(_Embedded(logits))(logits).decision_depth.tolist() == [1]
    logits[0, 0, 3] = 0.0
    logits[0, 0, 8] = 1.0
    assert LazyDecisions(_Embedded(logits))(logits).decision_depth.tolist() == [0]
