"""What must not move the score: the scale of the residual stream, the numbering of tokens, the company of a prompt."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from exitbench.models.adapter import ModelAdapter
from exitbench.models.toy import byte_tokenizer, toy_model
from families import DENSE, ONE_OF_EACH

IDS = {"top1_id", "final_rank"}


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {"rms_norm_eps": 0.0, "tie_word_embeddings": False}),
        ("gpt2", {"layer_norm_epsilon": 0.0, "tie_word_embeddings": False}),
        ("gpt_neox", {"layer_norm_eps": 0.0}),
    ],
)
def test_scale_of_the_residual_stream(family, changes, make_toy, trace_of, outputs_of):
    """A hidden state read without its final norm. Exact: norms without epsilon, and a scale that is a power of 2."""
    scale = 16
    model = make_toy(family, num_blocks=4, **changes)
    plain = trace_of(model)
    embeddings = [m for m in model.modules() if isinstance(m, torch.nn.Embedding)]
    for module in embeddings + outputs_of(ModelAdapter(model).blocks):
        for parameter in module.parameters():
            parameter.mul_(scale)
    scaled = trace_of(model)
    for name, values in plain.signals.items():
        factor = scale if name == "hidden_norm" else 1
        assert np.array_equal(scaled.signals[name], factor * values, equal_nan=True), name


def _renumbered_tokenizer(new_id):
    content = json.loads(byte_tokenizer().backend_tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    content["model"]["vocab"] = {piece: int(new_id[old]) for piece, old in vocabulary.items()}
    for token in content["added_tokens"]:
        token["id"] = int(new_id[token["id"]])
    special = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(content)), **special)


@pytest.mark.parametrize("family", DENSE)
def test_numbering_of_tokens(family, trace_of, toy_trace, card_of):
    """Anything that depends on a token's id, where no logits tie: an argmax over part of the vocabulary, say."""
    old_id = np.random.default_rng(0).permutation(len(byte_tokenizer()))
    new_id = np.argsort(old_id)
    model = toy_model(family)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    for weight in {id(m.weight): m.weight for m in (embedding, head)}.values():
        weight.copy_(weight[torch.as_tensor(old_id)])
    plain, renumbered = toy_trace(family), trace_of(model, tokenizer=_renumbered_tokenizer(new_id))
    assert np.array_equal(renumbered.input_id, new_id[plain.input_id])
    assert np.array_equal(renumbered.signals["top1_id"], new_id[plain.signals["top1_id"]])
    for name in plain.signals.keys() - IDS:  # sums over the vocabulary run in another order
        np.testing.assert_allclose(
            renumbered.signals[name], plain.signals[name], rtol=1e-4, atol=1e-5, equal_nan=True, err_msg=name
        )
    assert card_of(renumbered).ees == card_of(plain).ees


def _rows_by_sample(trace):
    """Sample id -> its rows as arrays by name."""
    columns = {name: getattr(trace, name) for name in ("turn", "position", "input_id", "target_id")} | trace.signals
    rows = {}
    for index, sample in enumerate(trace.samples):
        rows[sample.turns] = {name: values[trace.sample_index == index] for name, values in columns.items()}
    return rows


def _assert_same_rows(one, other):
    assert one.keys() == other.keys()
    for sample, columns in one.items():
        for name, values in columns.items():
            assert np.array_equal(values, other[sample][name], equal_nan=True), (sample, name)


@pytest.mark.parametrize("family", ONE_OF_EACH)  # answers of every family: tests/trace/test_generate.py
def test_company_in_generation(family, trace_of, card_of):
    """Padding that leaks into an answer: prompts of unequal length, alone and together."""
    alone, together = (trace_of(toy_model(family), on="answers", generation_batch=size) for size in (1, 4))
    assert len({len(sample.turns[0]) for sample in alone.samples}) > 1
    _assert_same_rows(_rows_by_sample(alone), _rows_by_sample(together))
    assert card_of(alone).ees == card_of(together).ees


def test_order_of_prompts(trace_of, toy_trace, card_of):
    """A prompt that sees the one before it: a cache or a buffer that is not emptied."""
    forwards = toy_trace("llama")
    texts = [sample.turns[0] for sample in forwards.samples]
    backwards = trace_of(toy_model(), texts[::-1])
    _assert_same_rows(_rows_by_sample(forwards), _rows_by_sample(backwards))
    assert card_of(backwards).ees.value == pytest.approx(card_of(forwards).ees.value, abs=1e-12)


def test_rows_are_compared_at_all(toy_trace):
    """The comparison of rows above must notice one different number."""
    trace = toy_trace("llama")
    prob = trace.signals["top1_prob"].copy()
    prob[-1, 1] += 1e-6
    changed = replace(trace, signals=trace.signals | {"top1_prob": prob})
    with pytest.raises(AssertionError):
        _assert_same_rows(_rows_by_sample(trace), _rows_by_sample(changed))
