"""What is counted on a loaded model."""

import pytest
import torch
from exitbench.models.facts import model_shape, rotary_bases

from exitbench.errors import ValidationError
from exitbench.models.adapter import ModelAdapter
from exitbench.models.toy import toy_model

# The toy Llama by hand: 32 wide, 4 heads of 8 with 2 key-value heads, 64 in the MLP.
LLAMA_BLOCK = 32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 64


def test_llama_by_hand():
    """Key-value heads counted as if there were as many as query heads, a gate left out, a tied head counted twice."""
    shape = model_shape(ModelAdapter(toy_model("llama", num_blocks=4)))
    assert shape.block_weights == (LLAMA_BLOCK,) * 4
    assert shape.block_costs == (0.25,) * 4
    assert shape.head_weights == 259 * 32
    assert shape.num_parameters == 259 * 32 + 4 * (LLAMA_BLOCK + 2 * 32) + 32
    assert (shape.num_blocks, shape.hidden_size, shape.vocab_size) == (4, 32, 259)


def test_unequal_blocks_have_unequal_costs():
    """Costs of 1/L whatever the blocks' sizes."""
    model = toy_model("llama", num_blocks=2)
    mlp = model.model.layers[1].mlp
    for name in ("gate_proj", "up_proj"):
        linear = getattr(mlp, name)
        linear.weight = type(linear.weight)(linear.weight[:32].clone(), requires_grad=False)
    mlp.down_proj.weight = type(mlp.down_proj.weight)(mlp.down_proj.weight[:, :32].clone(), requires_grad=False)
    shape = model_shape(ModelAdapter(model))
    assert shape.block_weights == (LLAMA_BLOCK, LLAMA_BLOCK - 3 * 32 * 32)
    assert shape.block_costs == pytest.approx((9216 / 15360, 6144 / 15360))


def test_a_projection_used_twice_counts_twice():
    """Shared weights counted once although they are executed at each use."""
    model = toy_model("llama", num_blocks=2)
    attention = model.model.layers[0].self_attn
    attention.v_proj = attention.k_proj
    shape = model_shape(ModelAdapter(model))
    assert shape.block_weights == (LLAMA_BLOCK, LLAMA_BLOCK)


class _RoutedMlp(torch.nn.Module):
    """Three linear experts, of which each token goes through the one that its router likes best."""

    def __init__(self) -> None:
        super().__init__()
        self.router = torch.nn.Linear(32, 3, bias=False)
        self.experts = torch.nn.ModuleList(torch.nn.Linear(32, 32, bias=False) for _ in range(3))

    def forward(self, hidden):
        out, chosen = torch.zeros_like(hidden), self.router(hidden).argmax(-1)
        for index, expert in enumerate(self.experts):
            out[chosen == index] = expert(hidden[chosen == index])
        return out


def test_experts_count_for_the_tokens_routed_to_them():
    """Every expert counted in full for each token, though a token passes through one: blocks far too dear."""
    model = toy_model("llama", num_blocks=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.model.layers[1].mlp = _RoutedMlp()
    dense = LLAMA_BLOCK - 3 * 32 * 64
    assert model_shape(ModelAdapter(model)).block_weights == (LLAMA_BLOCK, dense + 3 * 32 + 32 * 32)


def test_weights_shared_by_blocks_count_at_each_execution():
    """One set of weights run in several blocks: a cost of zero for all but one of them."""
    model = toy_model("llama", num_blocks=3)
    first, last = model.model.layers[0].mlp, model.model.layers[2].mlp
    for name in ("gate_proj", "up_proj", "down_proj"):
        getattr(last, name).weight = getattr(first, name).weight
    assert model_shape(ModelAdapter(model)).block_weights == (LLAMA_BLOCK,) * 3


def test_modules_shared_by_blocks_are_refused():
    """A shared module is watched under one name only: its work would be missing from the other block."""
    model = toy_model("llama", num_blocks=3)
    model.model.layers[2].mlp = model.model.layers[0].mlp
    with pytest.raises(ValidationError, match="cannot count the cost of block 3"):
        model_shape(ModelAdapter(model))


def test_rotary_base_in_force(make_toy):
    """A rotary base read from a config that the model does not follow."""
    assert rotary_bases(toy_model("llama")) == {"model.rotary_emb.inv_freq": 10000.0}
    assert list(
        rotary_bases(make_toy("llama", rope_parameters={"rope_type": "default", "rope_theta": 5e5})).values()
    ) == [500000.0]
    assert sorted(rotary_bases(toy_model("gemma3_text")).values()) == [10000.0, 1000000.0]
    assert rotary_bases(toy_model("gpt2")) == {}
    changed = toy_model("llama")
    changed.model.rotary_emb.inv_freq.copy_(200.0 ** -(changed.model.rotary_emb.inv_freq.new_tensor(range(4)) / 4))
    assert list(rotary_bases(changed).values()) == [200.0]


def test_scaled_frequencies_have_no_base(make_toy):
    """Scaled frequencies reported as a base that would not reproduce them."""
    scaled = make_toy("llama", rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0})
    assert list(rotary_bases(scaled).values()) == [None]
