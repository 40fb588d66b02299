"""Drafts and their check on one row: where rounds end."""

import pytest
import torch

from exitbench.decode.decoder import ExitDecoder
from exitbench.models.load import prove
from exitbench.models.toy import toy_model
from exitbench.policies.static import FixedDepth

NUM_NEW = 11


@pytest.fixture(scope="module")
def certain():
    """A toy whose last two blocks change nothing, so that all drafts at depth 2 are right."""
    model = toy_model(dtype=torch.float64)
    for block in model.model.layers[2:]:
        block.self_attn.o_proj.weight.zero_()
        block.mlp.down_proj.weight.zero_()
    return prove("certain", model)


@pytest.fixture(scope="module")
def make_certain(certain):
    """A decoder of it that drafts at depth 2."""
    abilities = ExitDecoder(certain, FixedDepth()).abilities
    return lambda **options: ExitDecoder(
        certain, FixedDepth(threshold=2), state="lossless", abilities=abilities, **options
    )


@pytest.fixture(scope="module")
def greedy(certain, prompts):
    """The full model's answer."""
    decoded = ExitDecoder(certain, FixedDepth()).decode(prompts[:1], max_new_tokens=NUM_NEW, ends=())
    return decoded.answers[0].ids


@pytest.mark.parametrize("draft", [1, 3, 4, 50])
def test_rounds_of_right_drafts(make_certain, prompts, greedy, draft):
    """A token lost or doubled between rounds; more drafted than may be, or than there is room for."""
    decoded = make_certain(draft=draft).decode(prompts[:1], max_new_tokens=NUM_NEW, ends=())
    (answer,), counts = decoded.answers, decoded.counts
    assert answer.ids == greedy
    assert counts["accepted"] == counts["drafts"]
    assert 1 + counts["accepted"] + counts["rounds"] == NUM_NEW  # of the prompt; drafts; the checks' own
    rounds = {1: 5, 3: 3, 4: 2, 50: 1}[draft]
    assert counts["rounds"] == rounds
    assert answer.depths.count(4) == 1 + rounds
    assert answer.depths.count(2) == counts["accepted"]


def test_wrong_drafts_cost_no_token(make_decoder, prompts):
    """A wrong draft kept, or one that costs the answer a token."""
    (expected,) = make_decoder(FixedDepth()).decode(prompts[:1], max_new_tokens=NUM_NEW, ends=()).answers
    decoder = make_decoder(FixedDepth(threshold=1), state="lossless", draft=1)
    decoded = decoder.decode(prompts[:1], max_new_tokens=NUM_NEW, ends=())
    assert decoded.answers[0].ids == expected.ids
    assert decoded.counts["accepted"] < decoded.counts["drafts"] <= decoded.counts["rounds"]


@pytest.mark.parametrize("place", range(1, 6))
def test_an_end_among_kept_drafts_ends_the_answer(make_certain, prompts, greedy, place):
    """Tokens behind the end in the answer, because they were drafted and right."""
    place = greedy.index(greedy[place])
    told = []
    decoded = make_certain(draft=4).decode(
        prompts[:1], max_new_tokens=NUM_NEW, ends=[greedy[place]], on_token=lambda *token: told.append(token)
    )
    (answer,) = decoded.answers
    assert answer.ids == greedy[: place + 1]
    assert told == [(0, token, depth) for token, depth in zip(answer.ids, answer.depths, strict=True)]


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_the_limit_ends_the_answer_inside_a_round(make_certain, prompts, greedy, limit):
    """An answer longer than asked for, or slots written behind the last one."""
    decoded = make_certain(draft=8).decode(prompts[:1], max_new_tokens=limit, ends=())
    assert decoded.answers[0].ids == greedy[:limit]
    assert decoded.counts["drafts"] == max(0, limit - 2)
