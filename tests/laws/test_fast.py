"""A fast trace says exactly what a full one says, of everything that it holds."""

import numpy as np
import pytest

from exitbench.models.toy import toy_model
from families import ONE_OF_EACH

SAME = (
    "ees",
    "ees_blocks",
    "ees_correct",
    "ees_per_character",
    "generated_mismatch",
    "loop_share",
    "ees_without_loops",
    "decided",
    "batch",
)


@pytest.mark.parametrize("family", ONE_OF_EACH)  # decisions of every family: tests/signals/test_lazy.py
def test_decisions_are_those_of_the_signals(family, toy_trace, trace_of, card_of):
    """A shorter way to the same name for another number, on any kind of model."""
    full, fast = toy_trace(family), trace_of(toy_model(family), fast=True)
    for name in ("sample_index", "position", "input_id", "target_id", "final_id", "decision_depth"):
        assert np.array_equal(getattr(fast, name), getattr(full, name)), name
    assert fast.signals == {}
    of_full, of_fast = card_of(full), card_of(fast)
    for name in SAME:
        assert getattr(of_fast, name) == getattr(of_full, name), name
    assert 0 < of_fast.ees.value < 1


def test_on_answers_too(trace_of, card_of):
    """Answers that differ, or loops and mismatches that are not found, because less is recorded of them."""
    texts = [f"Question number {number}?" for number in range(12)]
    full, fast = (card_of(trace_of(toy_model("llama"), texts, on="answers", fast=fast)) for fast in (False, True))
    for name in SAME:
        assert getattr(fast, name) == getattr(full, name), name
    assert fast.ees.low is not None
    same = {"ees", "ees_blocks"}
    assert fast.categories["law"].model_dump(include=same) == full.categories["law"].model_dump(include=same)
