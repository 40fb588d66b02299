"""Drafting on recorded runs of agreement: against a round-by-round simulation, and at its two ends."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitbench.replay.crossfit import NUM_FOLDS, Folds
from exitbench.replay.speculation import DRAFT_LENGTHS, count_rounds, project

UP_TO = np.linspace(0, 1, 5)


def rounds_one_by_one(agrees, length):
    """Rounds that one answer takes, token by token."""
    position = rounds = 0
    while position < len(agrees):
        rounds += 1
        accepted = 0
        while accepted < length and position + accepted < len(agrees) and agrees[position + accepted]:
            accepted += 1
        position += accepted + 1
    return rounds


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_rounds_equal_a_simulation(make_trace, data):
    """A run that goes on into the next answer, a round too few at its end, or acceptance beyond the draft."""
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    turns = data.draw(st.booleans())
    num_rows, length = sum(sizes), data.draw(st.integers(1, 5))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    agrees = rng.random((num_rows, 3)) < data.draw(st.sampled_from([0.0, 0.5, 0.9, 1.0]))
    answer = np.repeat(np.arange(len(sizes)), sizes)
    # Answers are turns of one conversation, or samples of their own.
    options = {"prompts": np.zeros(num_rows), "turn": answer} if turns else {"prompts": answer}
    trace = make_trace(np.ones((num_rows, 4), dtype=int), **options)
    counted = count_rounds(trace, agrees, length)
    starts = np.cumsum([0, *sizes[:-1]])
    assert counted.sum() == counted[starts].sum()
    for start, size in zip(starts, sizes, strict=True):
        expected = [rounds_one_by_one(agrees[start : start + size, depth], length) for depth in range(3)]
        assert counted[start].tolist() == expected


def projected(make_trace, make_material, top1, *, prompts, readout=0.1, **options):
    material = make_material(make_trace(top1, prompts=prompts))
    folds = Folds(material.prompts, draws=20, seed=np.random.SeedSequence(1))
    return project(material, folds, up_to=UP_TO, readout=readout, **options)


def test_drafts_that_always_agree(make_trace, make_material):
    """The cost of a round put together wrongly: the speedup of endless agreement has a closed form."""
    num_tokens, readout = 13 * 8, 0.1
    top1 = np.ones((12 * num_tokens, 5), dtype=int)
    got = projected(make_trace, make_material, top1, prompts=np.repeat(np.arange(12), num_tokens), readout=readout)
    longest = DRAFT_LENGTHS[-1]
    # 12 drafts and one token more in each round, all by the first block, which is a quarter of the work.
    round_cost = longest * (0.25 + readout) + 0.25 + 0.75 + readout
    assert got.drafts == ((1, longest),) * NUM_FOLDS
    assert got.speedup.value == pytest.approx((longest + 1) * (1 + readout) / round_cost)


def test_drafts_that_never_agree(make_trace, make_material):
    """A loss reported where nobody would draft, or a speedup a hair beside 1."""
    top1 = np.tile([1, 2, 3, 4, 5], (12 * 6, 1))
    got = projected(make_trace, make_material, top1, prompts=np.repeat(np.arange(12), 6))
    assert got.drafts == (None,) * NUM_FOLDS
    assert got.speedup.value == 1.0
    assert got.speedup.resamples.tolist() == [1.0] * len(got.speedup.resamples)


def test_costly_chunks_take_the_gain_away(make_trace, make_material):
    """A check of many tokens that is always as cheap as one."""
    top1 = np.ones((12 * 20, 5), dtype=int)
    prompts = np.repeat(np.arange(12), 20)
    free = projected(make_trace, make_material, top1, prompts=prompts)
    dear = projected(make_trace, make_material, top1, prompts=prompts, chunk_factor=lambda tokens: tokens)
    assert free.speedup.value > 1.2
    assert dear.drafts == (None,) * NUM_FOLDS


def test_drafts_are_chosen_without_the_prompts_they_are_judged_on(make_trace, make_material):
    """The best draft of all prompts together: in the fold of the odd one out it must lose."""
    num_prompts = 10
    top1 = np.tile([1, 2, 3, 4, 5], (num_prompts * 20, 1))
    material = make_material(make_trace(top1, prompts=np.repeat(np.arange(num_prompts), 20)))
    folds = Folds(material.prompts, draws=20, seed=np.random.SeedSequence(1))
    # Only the prompts of fold 0 agree, so only the other folds learn that drafts pay.
    of_row = folds.fold[material.prompts.row_prompt]
    top1[of_row == 0] = 5
    material = make_material(make_trace(top1, prompts=np.repeat(np.arange(num_prompts), 20)))
    got = project(material, folds, up_to=UP_TO, readout=0.0, lengths=(1,))
    assert got.drafts[0] is None
    # For the others a quarter of the prompts save a block in two tokens, too little for the rest: none pays there.
    assert got.speedup.value == 1.0
    paying = project(material, folds, up_to=np.array([0, 0, 0, 0, 1.0]), readout=0.0, lengths=(8,))
    assert paying.drafts[0] is None
    assert all(draft is not None for draft in paying.drafts[1:])


def test_a_model_of_one_block_drafts_nothing(make_trace, make_material):
    """An index error where there is no depth between."""
    material = make_material(make_trace(np.ones((24, 2), dtype=int), prompts=np.repeat(np.arange(12), 2)))
    folds = Folds(material.prompts, draws=20, seed=np.random.SeedSequence(1))
    got = project(material, folds, up_to=np.array([0, 1.0]), readout=0.1)
    assert got.drafts == (None,) * NUM_FOLDS
