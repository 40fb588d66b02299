"""The toy models and their tokenizer: small, seeded, and as loadable as any checkpoint."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from exitbench.models.toy import byte_tokenizer, save_toy, toy_model
from families import FAMILIES

TOKENIZER = byte_tokenizer()


@pytest.mark.parametrize("family", FAMILIES)
def test_same_arguments_same_weights(family):
    """A toy that depends on what was drawn before: golden numbers that change with the order of tests."""
    first = toy_model(family, seed=3)
    torch.manual_seed(11)
    second, other = toy_model(family, seed=3), toy_model(family, seed=4)
    state, again = first.state_dict(), second.state_dict()
    assert all(torch.equal(state[name], again[name]) for name in state)
    assert not torch.equal(first.get_input_embeddings().weight, other.get_input_embeddings().weight)


def test_building_leaves_the_random_state_alone():
    """A toy that reseeds the caller's own random numbers."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    toy_model()
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_size_and_blocks(family):
    """A toy that takes the family's default sizes because a name was misspelt in its config."""
    model = toy_model(family, num_blocks=None, dtype=torch.bfloat16)
    assert sum(p.numel() for p in model.parameters()) < 300_000
    assert 4 <= model.config.num_hidden_layers <= 6
    assert model.get_input_embeddings().num_embeddings == len(TOKENIZER) == 259
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


def test_blocks_change_the_hidden_state():
    """Weights so small that every block is the identity and every token decided at depth 0."""
    model = toy_model()
    ids = torch.arange(3, 60)[None]
    with torch.inference_mode():
        states = model(input_ids=ids, output_hidden_states=True).hidden_states
        top1 = [model.lm_head(model.model.norm(h)).argmax(-1) for h in states[:-1]]
    assert (top1[0] != top1[-1]).float().mean() > 0.3


@given(st.text())
def test_tokenizer_gives_every_text_back(text):
    """Bytes without a token, or a decoder that joins them wrongly."""
    ids = TOKENIZER(text).input_ids
    assert TOKENIZER.decode(ids) == text
    assert len(ids) == len(text.encode())
    assert all(3 <= i < 259 for i in ids)


def test_special_tokens():
    """Special ids that differ from those in the toys' configs: answers that never end."""
    config = toy_model().config
    assert (TOKENIZER.eos_token_id, TOKENIZER.pad_token_id, TOKENIZER.bos_token_id) == (0, 1, 2)
    assert (config.eos_token_id, config.pad_token_id, config.bos_token_id) == (0, 1, 2)


def test_chat_template():
    """A template that loses a turn, its role, or the place where the model is to answer."""
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]
    said = TOKENIZER.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert said == "<user>Hi</user><assistant>Yes</assistant><assistant>"
    assert byte_tokenizer(chat=False).chat_template is None


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_toy_loads_as_any_checkpoint(family, tmp_path):
    """A checkpoint that comes back with other weights (tied ones drawn anew), or with a tokenizer of other ids."""
    folder = save_toy(tmp_path / "toy", family, seed=2, num_blocks=None)
    loaded, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    toy = toy_model(family, seed=2, num_blocks=None)
    saved, read = toy.state_dict(), loaded.state_dict()
    assert saved.keys() == read.keys()
    assert all(torch.equal(saved[name], read[name]) for name in saved)
    ids = torch.tensor([tokenizer("a text").input_ids])
    with torch.inference_mode():  # memory laid out otherwise may round otherwise
        assert torch.allclose(loaded.eval()(input_ids=ids).logits, toy(input_ids=ids).logits, rtol=1e-4, atol=1e-4)
    assert tokenizer("a text").input_ids == TOKENIZER("a text").input_ids
    assert tokenizer.chat_template == TOKENIZER.chat_template
