"""Blocks that do nothing are free to skip: the score says so exactly, on every family."""

import numpy as np
import pytest

from exitbench.models.toy import toy_model
from families import DENSE

NUM_BLOCKS = 4


@pytest.mark.parametrize("family", DENSE)
def test_identity_tail(family, trace_of, toy_trace, card_of, silence):
    """A depth counted one too high or low, or a readout that sees more than the hidden state."""
    num_last = 2
    trace = trace_of(silence(toy_model(family, num_blocks=NUM_BLOCKS), num_last))
    decided = trace.decision_depth
    assert decided.max() <= NUM_BLOCKS - num_last
    assert np.ptp(trace.signals["top1_prob"][:, NUM_BLOCKS - num_last :], axis=1).max() == 0
    assert card_of(trace).ees.value >= num_last / NUM_BLOCKS - 1e-12
    # The same model with its blocks at work is not decided by then, so the bound says something.
    assert toy_trace(family).decision_depth.max() > NUM_BLOCKS - num_last


@pytest.mark.parametrize("family", DENSE)
def test_nothing_but_identity(family, trace_of, card_of, silence):
    """The upper end out of reach: blocks all of which could go, and a score below 1."""
    card = card_of(trace_of(silence(toy_model(family, num_blocks=NUM_BLOCKS), NUM_BLOCKS)))
    assert card.ees.value == pytest.approx(1, abs=1e-12)
    assert card.decided.value == [1.0] * (NUM_BLOCKS + 1)


def _lengthened(family, num_more, silence):
    """The family's toy, followed by identity blocks of the same size."""
    short, long = toy_model(family), toy_model(family, num_blocks=NUM_BLOCKS + num_more, seed=1)
    missing, unexpected = long.load_state_dict(short.state_dict(), strict=False)
    assert missing
    assert not unexpected
    return silence(long, num_more)


@pytest.mark.parametrize("family", DENSE)
def test_appended_identity_blocks(family, trace_of, toy_trace, card_of, silence):
    """Work that is not skipped, 1 - EES, counted as anything but a share of all blocks."""
    num_more = 3
    before = card_of(toy_trace(family)).ees.value
    after = card_of(trace_of(_lengthened(family, num_more, silence))).ees.value
    assert 0 < before < 1
    assert 1 - after == pytest.approx((1 - before) * NUM_BLOCKS / (NUM_BLOCKS + num_more), abs=1e-12)


def test_appended_identity_blocks_change_no_answer(trace_of, card_of, silence):
    """The same law where the tokens are the model's own: blocks that do nothing must not disturb the cache either."""
    short = trace_of(toy_model(), on="answers")
    long = trace_of(_lengthened("llama", 2, silence), on="answers")
    assert np.array_equal(short.target_id, long.target_id)
    before, after = (card_of(trace).ees.value for trace in (short, long))
    assert 1 - after == pytest.approx((1 - before) * NUM_BLOCKS / (NUM_BLOCKS + 2), abs=1e-12)
