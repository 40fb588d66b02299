"""Greedy answers in batches, against the slow and obvious way."""

import pytest
import torch

from exitbench.models.adapter import ModelAdapter
from exitbench.models.pretrained import clean_generation_config
from exitbench.models.toy import byte_tokenizer, toy_model
from exitbench.models.validate import validate
from exitbench.trace.generate import end_token_ids, greedy_answers
from families import FAMILIES

PROMPTS = [[5, 9], [40, 41, 42, 43, 44, 45, 46, 47], [7], [100, 3, 100]]


@pytest.fixture(params=FAMILIES)
def model(request):
    model = toy_model(request.param)
    clean_generation_config(model, byte_tokenizer())
    return model


def _one_by_one(model, prompt, max_new_tokens, ends=()):
    said = list(prompt)
    for _ in range(max_new_tokens):
        with torch.inference_mode():
            said.append(int(model(input_ids=torch.tensor([said]), use_cache=False).logits[0, -1].argmax()))
        if said[-1] in ends:
            break
    return said[len(prompt) :]


def test_batch_equals_one_by_one(model):
    """Padding that is attended to, positions counted from the padding, a cache that is not the model."""
    expected = [_one_by_one(model, prompt, 12, ends=[0]) for prompt in PROMPTS]
    assert [greedy_answers(model, [prompt], 12)[0] for prompt in PROMPTS] == expected
    padding = next(check for check in validate(ModelAdapter(model)) if check.name == "padding")
    assert (greedy_answers(model, PROMPTS, 12) == expected) is padding.passed


def test_answers_end_at_the_first_end_token():
    """Padding counted as an answer, an end token cut away, or only the first of several end tokens known."""
    model = toy_model()
    clean_generation_config(model, byte_tokenizer())
    free = greedy_answers(model, PROMPTS, 10)
    ends = [free[0][4], free[1][2]]
    model.generation_config.eos_token_id = ends
    assert end_token_ids(model) == ends
    answers = greedy_answers(model, PROMPTS, 10)
    for answer, unbounded in zip(answers, free, strict=True):
        stop = next((i + 1 for i, token in enumerate(unbounded) if token in ends), 10)
        assert answer == unbounded[:stop]
    assert len({len(answer) for answer in answers}) > 1


@pytest.mark.parametrize(("stated", "expected"), [(None, []), (7, [7]), ([7, 8], [7, 8])])
def test_end_tokens(stated, expected):
    """One end token where a model has several, or a crash where it has none."""
    model = toy_model()
    model.generation_config.eos_token_id = stated
    assert end_token_ids(model) == expected


def test_no_end_token_at_all():
    """A model without end token: padding with nothing."""
    model = toy_model()
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = None
    answers = greedy_answers(model, PROMPTS, 6)
    assert [len(answer) for answer in answers] == [6] * 4
    assert answers == [_one_by_one(model, prompt, 6) for prompt in PROMPTS]


def test_end_token_as_padding():
    """Prompts padded with the end token that are taken to be over before they began."""
    model = toy_model()
    model.generation_config.pad_token_id = model.generation_config.eos_token_id = 0
    assert greedy_answers(model, PROMPTS, 6) == [_one_by_one(model, prompt, 6, ends=[0]) for prompt in PROMPTS]
