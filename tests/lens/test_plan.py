"""Plans: nothing held out is ever trained on, and a seed decides everything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exitbench.errors import LensError
from exitbench.lens.plan import STEP_TOKENS, make_plan

LENGTHS = st.lists(st.integers(2, 512), min_size=2, max_size=60)


@given(lengths=LENGTHS, tokens=st.integers(1, 5000), seed=st.integers(0, 2**32))
def test_held_out_documents_are_never_seen(lengths, tokens, seed):
    """A lens praised for what it has learnt by heart; a step of too few tokens; a plan that cannot be made again."""
    plan = make_plan(lengths, tokens=tokens, seed=seed)
    seen = [index for step in plan.steps for index in step]
    assert plan.held_out
    assert not set(plan.held_out) & set(seen)
    assert set(seen) <= set(range(len(lengths)))
    assert all(sum(lengths[index] for index in step) >= STEP_TOKENS for step in plan.steps)
    assert tokens <= plan.tokens == sum(lengths[index] for index in seen)
    assert plan == make_plan(lengths, tokens=tokens, seed=seed)


@pytest.mark.parametrize(("num_documents", "held_out"), [(2, 1), (7, 3), (30, 10), (400, 40)])
def test_number_held_out(num_documents, held_out):
    """A mean without an interval where there is text enough, or nothing left to learn on."""
    assert len(make_plan([600] * num_documents, tokens=1, seed=0).held_out) == held_out


def test_every_document_is_seen_before_any_is_seen_again():
    """Documents drawn with replacement: a part of the text that is never used."""
    plan = make_plan([600] * 20, tokens=600 * 25, seed=3)
    seen = [index for step in plan.steps for index in step]
    assert len(set(seen[:10])) == 10
    assert sorted(seen[:10]) == sorted(seen[10:20])
    assert seen[:10] != seen[10:20]


def test_one_document_is_refused():
    """A lens without any check of what it has learnt."""
    with pytest.raises(LensError, match="one document only"):
        make_plan([1000], tokens=10, seed=0)
