"""Decoding with early exit, on every model type that can be: against generate(), against replay, and against itself.

Tiny random models in float64, so that "the same" means the same: answers, depths and ids are compared exactly. Where a
threshold is needed it lies in the widest gap among the scores that a trace shows, so that some tokens leave, at
different depths, and none is within rounding of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from exitbench.decode.abilities import Abilities, StateWrite
from exitbench.decode.batch import Batch
from exitbench.decode.cache import LayerState, same_state, state_of
from exitbench.decode.decoder import ExitDecoder
from exitbench.decode.engine import Answer
from exitbench.decode.probe import Prober, Reader
from exitbench.decode.stack import Stack
from exitbench.errors import DecodeError
from exitbench.matrix import NOT_DECODED, UNSUPPORTED
from exitbench.models.adapter import ModelAdapter
from exitbench.models.discover import probe_ids
from exitbench.models.load import ProvedModel, prove
from exitbench.models.pretrained import clean_generation_config
from exitbench.models.shape import ModelShape
from exitbench.models.strict import quiet_transformers
from exitbench.models.tiny import causal_model_types
from exitbench.models.toy import byte_tokenizer, toy_model
from exitbench.policies.agreement import HiddenSaturation
from exitbench.policies.confidence import TopProbability
from exitbench.policies.policy import ExitPolicy
from exitbench.policies.static import FixedDepth
from exitbench.replay.look import look
from exitbench.trace.record import Recorder, Stretch
from exitbench.trace.table import Trace

TYPES = [name for name in causal_model_types() if name not in UNSUPPORTED and name not in NOT_DECODED]
ONLY_FLOAT32 = ("xglm",)
"""Types whose code mixes in numbers of float32."""
CANNOT_ROLL_BACK = ("recurrent_gemma",)
BY_CACHE = (
    *("llama", "gpt2", "bart"),  # keys and values
    *("gemma3_text", "gpt_oss", "llama4_text"),  # of a window, of chunks
    *("deepseek_v3", "deepseek_v4", "glm_moe_dsa"),  # latent, compressed, with an indexer
    *("mamba", "falcon_mamba", "mamba2"),  # recurrent states alone
    *("jamba", "zamba", "zamba2", "nemotron_h", "falcon_h1"),  # some blocks recurrent, shared blocks, both in one
    *("qwen3_next", "kimi_linear", "lfm2", "recurrent_gemma"),  # delta rule, convolutions, state of its own
)
"""One type or a few for each kind of state."""
WITHOUT_SHORTCUT = ("deepseek_v4", "mamba", "falcon_mamba", "mamba2", "zamba", "zamba2", "recurrent_gemma")
"""Of these, types whose skipped blocks run whole for their state: it is written in place, or not by the cache alone."""
NUM_NEW = 7
"""Tokens of an answer; with prompts of 9 tokens or more, some of them lie behind the windows of the tiny models."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model, what is known of it, and its own answers."""

    proved: ProvedModel
    abilities: Abilities
    prompts: list[list[int]]
    answers: tuple[Answer, ...]
    """Of the loop that never leaves."""
    trace: Trace
    """Of the answers, a prompt a sample."""
    by_probability: ExitPolicy
    by_saturation: ExitPolicy

    def decoder(self, policy: ExitPolicy, *, abilities: Abilities | None = None, **options: Any) -> ExitDecoder:
        """A decoder without another trial."""
        return ExitDecoder(self.proved, policy, abilities=abilities or self.abilities, **options)


def _proved(model_type: str, make_shape: Any, make_block: Any) -> ProvedModel:
    """A toy, proved like any model; without its costs, which take longer to count than all that is done here."""
    with quiet_transformers(), pytest.MonkeyPatch.context() as patch:
        model = toy_model(
            model_type, num_blocks=None, dtype=torch.float32 if model_type in ONLY_FLOAT32 else torch.float64
        )
        clean_generation_config(model, byte_tokenizer())
        if model._can_set_experts_implementation():
            model.set_experts_implementation("eager")  # the others know no float64

        def shape(adapter: ModelAdapter) -> ModelShape:
            made_of = [frozenset(type(part).__name__ for part in block.modules()) for block in adapter.blocks]
            kinds = list(dict.fromkeys(made_of))  # each stands as one of another number of mixers
            blocks = tuple(make_block(mixers=("full attention",) * (1 + kinds.index(parts))) for parts in made_of)
            return make_shape([1 / adapter.num_blocks] * adapter.num_blocks, blocks=blocks)

        patch.setattr("exitbench.models.load.model_shape", shape)
        return prove(model_type, model)


def _dividing(policy: ExitPolicy, trace: Trace) -> ExitPolicy:
    """A policy with the threshold, in a wide gap of its scores, at which tokens leave at as many depths as may be."""
    seen = look(trace, policy)
    scores = np.unique(policy.scores(seen))
    gaps = np.diff(scores)
    wide = np.flatnonzero(gaps >= np.quantile(gaps, 0.75))
    at = [policy.model_copy(update={"threshold": float(scores[i] + gaps[i] / 2)}) for i in wide]
    return max(at, key=lambda each: len(set(each.exits(seen))))


class Builders:
    """The shared builders of constructed parts."""

    def __init__(self, make_trace: Any, make_shape: Any, make_block: Any) -> None:
        self.trace, self.shape, self.block = make_trace, make_shape, make_block

    def case(self, model_type: str, lengths: Sequence[int]) -> Case:
        """One model type; prompts of equal length where padding changes answers."""
        proved = _proved(model_type, self.shape, self.block)
        lengths = lengths if proved.can_pad else (min(lengths),) * len(lengths)
        prompts = [piece.tolist() for piece in probe_ids(proved.model, sum(lengths))[0].split(lengths)]
        never = ExitDecoder(proved, FixedDepth())
        answers = never.decode(prompts, max_new_tokens=NUM_NEW, ends=()).answers
        recorder = Recorder(proved, fast=False, memory=2**26, say=pytest.fail)
        rows = [
            recorder.rows(
                [Stretch(ids=[*prompt, *answer.ids], first_row=len(prompt) - 1, turn=0, sample=0, category="chat")]
            )
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        signals = {name: np.concatenate([row.signals[name] for row in rows]) for name in rows[0].signals}
        trace = self.trace(signals["top1_id"], signals=signals, prompts=np.repeat(np.arange(len(prompts)), NUM_NEW))
        return Case(
            proved=proved,
            abilities=never.abilities,
            prompts=prompts,
            answers=answers,
            trace=trace,
            by_probability=_dividing(TopProbability(), trace),
            by_saturation=_dividing(HiddenSaturation(), trace),
        )


@pytest.fixture(scope="module")
def builders(make_trace, make_shape, make_block) -> Builders:
    """See `Builders`."""
    return Builders(make_trace, make_shape, make_block)


# The others pass a decoder's trial among the fast tests: `test_matrix`.
@pytest.fixture(
    scope="module", params=[name if name in BY_CACHE else pytest.param(name, marks=pytest.mark.slow) for name in TYPES]
)
def case(request, builders) -> Case:
    """One model type, two prompts."""
    return builders.case(request.param, (13, 9))


@pytest.fixture(scope="module", params=BY_CACHE)
def kept(request, builders) -> Case:
    """One model type for each kind of state, three prompts."""
    return builders.case(request.param, (13, 9, 11))


def test_never_leaving_is_generate(case):
    """A loop that numbers positions, masks padding or keeps state otherwise than transformers does."""
    for prompt, answer in zip(case.prompts, case.answers, strict=True):
        ids = torch.tensor([prompt])
        config = GenerationConfig(
            do_sample=False, use_cache=True, max_new_tokens=NUM_NEW, eos_token_id=-1, pad_token_id=0
        )
        with torch.no_grad():
            expected = case.proved.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config
            )
        assert list(answer.ids) == expected[0, len(prompt) :].tolist()
        assert answer.depths == (case.proved.adapter.num_blocks,) * NUM_NEW


def test_following_leaves_where_replay_says(case):
    """State of skipped blocks that is not the full model's; signals of another token, depth or readout than traced."""
    for policy in (case.by_probability, case.by_saturation):
        expected = policy.exits(look(case.trace, policy))
        followed = case.decoder(policy).follow(case.prompts, [answer.ids for answer in case.answers])
        depths = np.concatenate([each.depths for each in followed])
        assert depths.tolist() == expected.tolist()
        chosen = np.concatenate([each.ids for each in followed])
        assert chosen.tolist() == case.trace.top1_id[np.arange(len(depths)), depths].tolist()
    assert len({*case.by_probability.exits(look(case.trace, case.by_probability)), *depths}) > 1


def test_lossless_is_greedy(case):
    """A draft that is kept unchecked, or a block that still knows of one that was not kept."""
    policies = [FixedDepth(threshold=max(1, case.proved.adapter.num_blocks - 1)), case.by_probability]
    if case.proved.name in CANNOT_ROLL_BACK:
        with pytest.raises(DecodeError, match="cannot be put back"):
            case.decoder(policies[0], state="lossless")
        return
    for policy in policies:
        decoded = case.decoder(policy, state="lossless", draft=3).decode(
            case.prompts[:1], max_new_tokens=NUM_NEW, ends=()
        )
        assert decoded.answers[0].ids == case.answers[0].ids


@pytest.mark.parametrize("model_type", ["gemma3_text", "mamba2", "falcon_h1", "qwen3_next"])
def test_drafts_are_both_kept_and_put_back(model_type, builders):
    """A comparison with greedy answers in which nothing was ever put back, or nothing ever kept."""
    case = builders.case(model_type, (13, 9, 11, 12))
    accepted = rejected = 0
    for depth in range(1, case.proved.adapter.num_blocks):
        decoder = case.decoder(FixedDepth(threshold=depth), state="lossless", draft=3)
        decoded = decoder.decode(case.prompts, max_new_tokens=NUM_NEW, ends=())
        assert [answer.ids for answer in decoded.answers] == [answer.ids for answer in case.answers]
        accepted += decoded.counts["accepted"]
        rejected += decoded.counts["drafts"] - decoded.counts["accepted"]
    assert min(accepted, rejected) >= 3, (accepted, rejected)


@pytest.mark.parametrize("state", ["deferred", "copy"])
def test_others_in_the_batch_change_nothing(kept, state):
    """A row that gets another's state, mask or position when rows leave apart and come together again."""
    alone = kept.decoder(kept.by_probability, state=state)
    expected = [alone.decode([prompt], max_new_tokens=NUM_NEW, ends=()).answers[0] for prompt in kept.prompts]
    if kept.abilities.separates_rows:
        assert len({answer.depths for answer in expected}) > 1
    for rows in ("regroup", "lockstep"):
        decoder = kept.decoder(kept.by_probability, state=state, rows=rows)
        assert decoder.decode(kept.prompts, max_new_tokens=NUM_NEW, ends=()).answers == tuple(expected)


def test_waiting_tokens_together_are_as_one_by_one(kept):
    """A block that takes several tokens at once and mixes them otherwise than one after the other."""
    one_by_one = replace(kept.abilities, chunks=(False,) * kept.proved.adapter.num_blocks)
    for policy in (kept.by_probability, kept.by_saturation, FixedDepth(threshold=1)):
        together, expected = (
            kept.decoder(policy, abilities=abilities, most_waiting=3).decode(
                kept.prompts, max_new_tokens=NUM_NEW, ends=()
            )
            for abilities in (kept.abilities, one_by_one)
        )
        assert together.answers == expected.answers
    # Tokens that all leave at depth 1 are sent on three at a time.
    assert expected.counts["flushes"] > 0
    if any(kept.abilities.chunks[1:]):
        assert together.counts["block_calls"] < expected.counts["block_calls"]


@torch.inference_mode()
def _states(case: Case, abilities: Abilities) -> list[LayerState]:
    """What the cache holds after an answer whose every token left after one block."""
    stack, reader = Stack(case.proved.adapter), Reader(case.proved, None)
    prober = Prober(case.proved, FixedDepth(threshold=1), reader, num_rows=1, answer_limit=NUM_NEW)
    with stack.installed():
        batch = Batch(
            stack,
            abilities,
            case.prompts[:1],
            room=NUM_NEW,
            prober=prober,
            reader=reader,
            state="copy",
            row_mode="regroup",
            most_waiting=1,
            device=case.proved.model.device,
        )
        start, stop = 0, batch.width
        for position, token in enumerate(case.answers[0].ids):
            prober.start((0,), [position])
            batch.step((0,), start, stop, finish=position == 0)
            batch.ids[0, stop] = token
            start, stop = stop, stop + 1
    return [state_of(layer) for layer in batch.cache.layers]


def test_shortcut_writes_the_state_of_the_whole_block(kept):
    """A block stopped before its last write, or a product left out that a write needs after all."""
    whole = replace(kept.abilities, writes=(StateWrite(),) * kept.proved.adapter.num_blocks)
    assert all(map(same_state, _states(kept, kept.abilities), _states(kept, whole)))
    assert any(write.num_writes for write in kept.abilities.writes) is (kept.proved.name not in WITHOUT_SHORTCUT)
