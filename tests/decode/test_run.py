"""Rows of one batch that end at different times, or fail."""

import copy
import itertools

import pytest
import torch

from exitbench.decode.batch import Batch
from exitbench.decode.decoder import ExitDecoder
from exitbench.models.load import prove
from exitbench.policies.confidence import TopProbability
from exitbench.policies.static import FixedDepth

NUM_NEW = 8
POLICIES = (FixedDepth(), FixedDepth(threshold=2), TopProbability(threshold=0.2))


@pytest.mark.parametrize("rows", ["regroup", "lockstep"])
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: f"{policy.name}-{policy.threshold}")
def test_an_end_token_ends_its_row_alone(make_decoder, prompts, policy, rows):
    """An answer that goes on behind its end, lacks it, or takes the rest of its batch along."""
    decoder = make_decoder(policy, rows=rows)
    whole = decoder.decode(prompts, max_new_tokens=NUM_NEW, ends=()).answers
    end = whole[1].ids[2]
    told = []
    ended = decoder.decode(prompts, max_new_tokens=NUM_NEW, ends=[end], on_token=lambda *token: told.append(token))
    for row, (answer, before) in enumerate(zip(ended.answers, whole, strict=True)):
        stop = before.ids.index(end) + 1 if end in before.ids else NUM_NEW
        assert answer.ids == before.ids[:stop]
        assert answer.depths == before.depths[:stop]
        assert answer.failure is None
        assert [token[1:] for token in told if token[0] == row] == list(zip(answer.ids, answer.depths, strict=True))
    assert len(ended.answers[1].ids) <= 3


def test_end_tokens_are_the_models_own(proved, make_decoder, prompts, monkeypatch):
    """An answer that ends only where it was told to."""
    decoder = make_decoder(FixedDepth())
    (whole,) = decoder.decode(prompts[:1], max_new_tokens=NUM_NEW, ends=()).answers
    monkeypatch.setattr(proved.model.generation_config, "eos_token_id", [whole.ids[3], 258])
    (answer,) = decoder.decode(prompts[:1], max_new_tokens=NUM_NEW).answers
    assert answer.ids == whole.ids[: whole.ids.index(whole.ids[3]) + 1]


def test_rows_that_ended_are_dropped(make_decoder, prompts, monkeypatch):
    """State of answers that are over, kept for as long as any of the batch goes on."""
    dropped = []
    monkeypatch.setattr(Batch, "drop", lambda _, row: dropped.append(row))
    decoder = make_decoder(FixedDepth())
    (first,) = decoder.decode(prompts[1:2], max_new_tokens=2, ends=()).answers
    dropped.clear()
    decoder.decode(prompts, max_new_tokens=NUM_NEW, ends=first.ids[-1:])
    assert dropped[0] == 1
    assert sorted(dropped) == [0, 1, 2]


@pytest.fixture(scope="module")
def poisoned(proved, abilities, make_decoder, prompts):
    """A model to which one token of the first answer is no number, its greedy answers before, and the token's place."""
    answers = make_decoder(FixedDepth()).decode(prompts, max_new_tokens=NUM_NEW, ends=()).answers
    said_elsewhere = {*itertools.chain(*prompts), *answers[1].ids, *answers[2].ids}
    token = next(token for token in answers[0].ids[:-1] if token not in said_elsewhere)
    model = copy.deepcopy(proved.model)
    healthy = prove("poisoned", model)
    model.model.embed_tokens.register_forward_hook(
        lambda _, ids, embedded: embedded.masked_fill((ids[0] == token)[..., None], torch.nan)
    )
    return healthy, answers, answers[0].ids.index(token) + 1


@pytest.mark.parametrize("state", ["deferred", "copy", "lossless"])
@pytest.mark.parametrize("policy", [FixedDepth(), TopProbability(threshold=1.0)], ids=lambda policy: policy.name)
def test_a_row_without_numbers_fails_alone(poisoned, abilities, prompts, policy, state):
    """An answer made of the argmax of NaN, or a batch lost for one of its rows."""
    model, answers, place = poisoned
    decoder = ExitDecoder(model, policy, state=state, abilities=abilities)
    got = decoder.decode(prompts, max_new_tokens=NUM_NEW, ends=()).answers
    assert got[0].failure == f"logits are not finite at depth 4, token {place + 1} of the answer"
    assert got[0].ids == answers[0].ids[:place]
    assert len(got[0].depths) == place
    assert [answer.ids for answer in got[1:]] == [answer.ids for answer in answers[1:]]
    assert all(answer.failure is None for answer in got[1:])


def test_a_draft_without_numbers_is_no_token(poisoned, abilities, prompts):
    """A round that keeps what was drafted from NaN."""
    model, answers, place = poisoned
    decoder = ExitDecoder(model, FixedDepth(threshold=1), state="lossless", abilities=abilities)
    (answer,) = decoder.decode(prompts[:1], max_new_tokens=NUM_NEW, ends=()).answers
    assert answer.ids == answers[0].ids[:place]
    assert answer.failure.endswith(f"token {place + 1} of the answer")
