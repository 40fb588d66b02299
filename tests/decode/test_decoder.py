"""What a decoder refuses, calls itself, and makes of several prompts."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from exitbench.decode.decoder import ExitDecoder
from exitbench.errors import DecodeError
from exitbench.policies import Schedule
from exitbench.policies.confidence import TopProbability
from exitbench.policies.static import FixedDepth

NUM_NEW = 5


@pytest.mark.parametrize(
    ("prompt", "limit", "says"),
    [
        ([], 5, "prompt 2 has no tokens"),
        ([3] * 2040, 9, "prompt 2 has 2040 tokens and the answer up to 9, the model knows 2048 positions"),
        ([3], 0, "max_new_tokens is 0, expected at least 1"),
    ],
)
def test_what_has_no_room_is_refused(make_decoder, prompt, limit, says):
    """Positions that the model never learnt, or an index error from inside it."""
    with pytest.raises(DecodeError, match=says):
        make_decoder(FixedDepth()).decode([[3, 4], prompt], max_new_tokens=limit)


def test_what_just_fits_is_decoded(make_decoder):
    """A limit off by one."""
    decoded = make_decoder(FixedDepth(threshold=1)).decode([[3] * 2039], max_new_tokens=9, ends=())
    assert len(decoded.answers[0].ids) == 9


@pytest.mark.parametrize("option", ["draft", "most_waiting"])
def test_numbers_below_one_are_refused(make_decoder, option):
    """A loop that never ends, or never begins."""
    with pytest.raises(DecodeError, match=f"{option} is 0, expected at least 1"):
        make_decoder(FixedDepth(), **{option: 0})


def test_following_nothing_is_refused(make_decoder, prompts):
    """An answer without tokens that comes back as one with some."""
    with pytest.raises(DecodeError, match="expected at least 1"):
        make_decoder(FixedDepth()).follow(prompts[:1], [[]])


@pytest.mark.parametrize(
    ("policy", "options", "setting"),
    [
        (FixedDepth(), {}, "fixed-depth never, probes every, deferred, regroup"),
        (
            TopProbability(threshold=0.98765, schedule=Schedule(every=2)),
            {"state": "lossless", "draft": 3, "rows": "lockstep"},
            "top1-prob 0.9877, probes every-2, lossless, draft 3, lockstep",
        ),
    ],
)
def test_setting_says_all_that_was_chosen(make_decoder, policy, options, setting):
    """Two settings that look alike in a table."""
    assert make_decoder(policy, **options).setting == setting


def test_the_prompt_runs_to_the_end_whatever_leaves(make_decoder, prompts):
    """Prompt tokens without state in the deeper blocks, or the depth of the first token not recorded."""
    (answer,) = make_decoder(FixedDepth(threshold=2)).decode(prompts[:1], max_new_tokens=NUM_NEW, ends=()).answers
    assert answer.depths == (2,) * NUM_NEW
    never, early = (
        make_decoder(FixedDepth(threshold=threshold)).decode(prompts[:1], max_new_tokens=1).counts
        for threshold in (None, 1)
    )
    assert never["block_tokens"] == early["block_tokens"] == 4 * len(prompts[0])
    assert early["skipped_blocks"] == 0


def test_prompts_one_by_one_keep_their_order_and_number(make_decoder, prompts):
    """Answers of one prompt told or returned as another's; counts of the last prompt alone."""
    decoder = make_decoder(FixedDepth(threshold=2), state="lossless")
    told = []
    decoded = decoder.decode(
        prompts, max_new_tokens=NUM_NEW, ends=(), on_token=lambda row, token, _: told.append((row, token))
    )
    alone = [decoder.decode([prompt], max_new_tokens=NUM_NEW, ends=()) for prompt in prompts]
    assert decoded.answers == tuple(each.answers[0] for each in alone)
    assert told == [(row, token) for row, answer in enumerate(decoded.answers) for token in answer.ids]
    assert decoded.counts == {name: sum(each.counts[name] for each in alone) for name in decoded.counts}
    assert decoded.num_tokens == 3 * NUM_NEW


def test_rows_that_cannot_be_told_apart_are_not_batched(proved, abilities, prompts):
    """A model that does not pass the trial of rows, batched all the same."""
    decoder = ExitDecoder(proved, FixedDepth(threshold=2), abilities=replace(abilities, separates_rows=False))
    decoded = decoder.decode(prompts, max_new_tokens=1, ends=())
    assert decoded.counts["block_calls"] == 4 * len(prompts)


def test_a_tuned_lens_reads_out_every_exit(proved, abilities, prompts):
    """Exits read out as if there were no lens, or the full model's own answer read out through it."""
    weights = torch.zeros(4, 32, 32, dtype=torch.float64)
    biases = torch.randn(4, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    translators = SimpleNamespace(weights=weights, biases=biases)
    decoder = ExitDecoder(proved, FixedDepth(threshold=2), translators=translators, abilities=abilities)
    (answer,) = decoder.decode(prompts[:1], max_new_tokens=NUM_NEW, ends=()).answers
    ids = torch.tensor([[*prompts[0], *answer.ids[:-1]]])
    hidden = proved.adapter.capture(ids, slice(len(prompts[0]) - 1, None))
    expected = proved.adapter.readout(hidden[2] + biases[2])
    assert answer.ids == tuple(expected.argmax(-1).tolist())
    through, plain = (
        ExitDecoder(proved, FixedDepth(), translators=lens, abilities=abilities) for lens in (translators, None)
    )
    assert through.decode(prompts, max_new_tokens=2).answers == plain.decode(prompts, max_new_tokens=2).answers


@pytest.mark.parametrize("state", ["deferred", "copy"])
def test_following_ones_own_answer_changes_nothing(make_decoder, prompts, state):
    """A prompt or a token whose state is completed otherwise when it is given than when it is chosen."""
    decoder = make_decoder(TopProbability(threshold=0.2), state=state)
    answers = decoder.decode(prompts, max_new_tokens=NUM_NEW, ends=()).answers
    assert len({*answers[0].depths, *answers[1].depths, *answers[2].depths}) > 1
    followed = decoder.follow(prompts, [answer.ids for answer in answers])
    assert [(each.ids, each.depths) for each in followed] == [(answer.ids, answer.depths) for answer in answers]


def test_following_says_how_probable_the_given_tokens_were(proved, make_decoder, prompts):
    """Log-probabilities of the decoder's own choice, of another position, or in another base."""
    given = [9, 8, 7]
    (followed,) = make_decoder(FixedDepth(threshold=3)).follow(prompts[:1], [given])
    hidden = proved.adapter.capture(torch.tensor([[*prompts[0], *given]]), slice(len(prompts[0]) - 1, -1))
    logprobs = proved.adapter.readout(hidden[3]).float().log_softmax(-1)
    assert followed.logprobs == pytest.approx(logprobs[torch.arange(3), given].tolist(), rel=1e-5)
    assert followed.ids == tuple(logprobs.argmax(-1).tolist())
