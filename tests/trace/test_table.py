"""Invariants of a trace in memory: broken ones stop where they are made."""

from dataclasses import replace

import numpy as np
import pytest


@pytest.fixture
def trace(make_trace):
    return make_trace([[1, 2, 2], [3, 3, 3], [4, 5, 6]], prompts=[0, 0, 1])


def test_sizes(trace):
    """Depths counted without depth 0."""
    assert (trace.num_tokens, trace.num_blocks) == (3, 2)


@pytest.mark.parametrize("name", ["turn", "position", "input_id", "target_id"])
def test_columns_of_unequal_length(trace, name):
    """Rows that do not belong together."""
    with pytest.raises(AssertionError, match=name):
        replace(trace, **{name: getattr(trace, name)[:2]})


def test_signal_of_another_depth(trace):
    """A signal without depth 0, or with its axes swapped."""
    for wrong in (trace.signals["entropy"][:, 1:], trace.signals["entropy"][:2]):
        with pytest.raises(AssertionError, match="entropy"):
            replace(trace, signals=trace.signals | {"entropy": wrong})


def test_samples_out_of_order_or_unknown(trace):
    """Rows of a sample that does not exist, or scattered over the trace."""
    with pytest.raises(AssertionError, match="grouped by sample"):
        replace(trace, sample_index=np.array([0, 1, 0], np.int32))
    with pytest.raises(AssertionError):
        replace(trace, sample_index=np.array([0, 0, 2], np.int32))
    with pytest.raises(AssertionError):
        replace(trace, sample_index=np.array([-1, 0, 1], np.int32))
