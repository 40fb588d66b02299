"""A model whose blocks are called from outside, and left as it was."""

import pytest
import torch

from exitbench.decode.stack import Stack, Tokens
from exitbench.errors import DecodeError
from exitbench.models.adapter import ModelAdapter
from exitbench.models.toy import toy_model


def _tokens(ids: torch.Tensor, first_slot: int = 0) -> Tokens:
    positions = torch.arange(ids.shape[1])[None] + first_slot
    return Tokens(ids=ids, positions=positions, mask=None, first_slot=first_slot)


@pytest.fixture
def stack(proved) -> Stack:
    return Stack(proved.adapter)


@torch.inference_mode()
def test_driven_blocks_give_the_models_logits(proved, stack, prompts):
    """Blocks called with other arguments, in another order or on another state than the model's own code calls them."""
    ids = torch.tensor(prompts[:1])
    cache = stack.new_cache()

    def drive(calls, hidden):
        for block in range(stack.num_blocks):
            hidden = stack.block(block, calls, hidden)
        return hidden

    expected = proved.model(input_ids=ids).logits
    with stack.installed():
        first = stack.drive(_tokens(ids[:, :8]), cache, drive)
        second = stack.drive(_tokens(ids[:, 8:], 8), cache, drive)
    assert torch.allclose(first[:, -1], expected[:, 7], rtol=1e-12, atol=1e-12)
    assert torch.allclose(second[:, -1], expected[:, -1], rtol=1e-12, atol=1e-12)


@torch.inference_mode()
def test_nothing_stays_installed_after_an_error(proved, stack, prompts):
    """A model that answers through recorders ever after one batch failed."""
    ids = torch.tensor(prompts[:1])
    before = proved.model(input_ids=ids).logits

    def fail(calls, hidden):
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"), stack.installed():
        stack.drive(_tokens(ids), stack.new_cache(), fail)
    assert not any("forward" in vars(module) for module in proved.model.modules())
    assert torch.equal(proved.model(input_ids=ids).logits, before)
    assert stack.head_output is None


@torch.inference_mode()
def test_asking_for_arguments_makes_no_state(stack, prompts):
    """Tokens written twice, or places counted on, because somebody asked what blocks would be called with."""
    ids = torch.tensor(prompts[:1])
    cache = stack.new_cache()
    cache.slots = 3
    with stack.installed():
        calls = stack.calls(_tokens(ids[:, :2], 5), cache)
    assert len(calls) == stack.num_blocks
    assert cache.slots == 3
    assert cache.num_writes == 0
    assert all(layer.keys is None for layer in cache.layers)


def test_a_model_without_cache_is_refused():
    """An error from deep inside transformers at the first token."""
    with pytest.raises(DecodeError, match=r"OpenAIGPTLMHeadModel takes no key-value cache .* that exitbench knows"):
        Stack(ModelAdapter(toy_model("openai-gpt", num_blocks=2)))
