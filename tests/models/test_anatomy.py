"""What is counted on a loaded model, against counts by hand."""

from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from torch.nn import functional

from exitbench.errors import ValidationError
from exitbench.models import anatomy
from exitbench.models.adapter import ModelAdapter
from exitbench.models.anatomy import model_shape
from exitbench.models.shape import Experts
from exitbench.models.toy import toy_model

# The toy Llama by hand: 32 wide, 4 heads of 8 with 2 key-value heads, 64 in the MLP; all numbers of 4 bytes.
LLAMA_BLOCK = 32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 64
LLAMA_MLP = 3 * 32 * 64


def _product_weights(shape):
    return tuple(block.product_weights for block in shape.blocks)


@pytest.fixture(scope="module")
def shape_of():
    """Shapes of toys in their full variety of blocks, each counted once."""
    counted = {}

    def shape(model_type, **changes):
        key = model_type, *sorted(changes.items())
        if key not in counted:
            counted[key] = model_shape(ModelAdapter(toy_model(model_type, **({"num_blocks": None} | changes))))
        return counted[key]

    return shape


def test_llama_by_hand(shape_of):
    """Key-value heads counted as if there were as many as query heads, a gate left out, a tied head counted twice."""
    shape = shape_of("llama", num_blocks=4)
    assert _product_weights(shape) == (LLAMA_BLOCK,) * 4
    assert shape.block_costs == (0.25,) * 4
    assert shape.head_weights == 259 * 32
    assert shape.num_parameters == 259 * 32 + 4 * (LLAMA_BLOCK + 2 * 32) + 32
    assert (shape.num_blocks, shape.hidden_size, shape.vocab_size, shape.kind) == (4, 32, 259, "dense")
    parameters = shape.parameters
    assert (parameters.embedding, parameters.blocks) == (259 * 32, 4 * (LLAMA_BLOCK + 64))
    assert (parameters.output, parameters.idle) == (32, 0)
    block = shape.blocks[0]
    assert (block.mixers, block.feed_forward, block.experts) == (("full attention",), True, None)
    assert block.kind == "full attention + MLP"
    assert block.parameters == block.active_parameters == LLAMA_BLOCK + 2 * 32
    assert block.weight_bytes == 4 * (LLAMA_BLOCK + 2 * 32)
    # Scores and sums over 4 heads of 8; keys and values of 2 heads.
    assert (block.fixed_flops, block.flops_per_position) == (2 * LLAMA_BLOCK, 2 * 2 * 4 * 8)
    assert (block.state_bytes, block.state_bytes_per_position) == (0, 4 * 2 * 2 * 8)
    assert block.decode_flops(10) == 2 * LLAMA_BLOCK + 10 * 128


def test_bytes_are_those_of_the_dtype():
    """Bytes of float32 for a model in half precision."""
    shape = model_shape(ModelAdapter(toy_model("llama", dtype=torch.bfloat16)))
    assert shape.blocks[0].weight_bytes == 2 * (LLAMA_BLOCK + 2 * 32)
    assert shape.blocks[0].state_bytes_per_position == 2 * 2 * 2 * 8
    assert _product_weights(shape) == (LLAMA_BLOCK,) * 4


def test_experts_in_one_tensor(shape_of):
    """All experts counted, or none, because they lie in one tensor that no linear map holds."""
    block = shape_of("mixtral").blocks[0]
    router, expert = 4 * 32, 3 * 32 * 64
    attention = LLAMA_BLOCK - LLAMA_MLP
    assert block.experts == Experts(total=4, active=2)
    assert block.product_weights == attention + router + 2 * expert
    assert block.parameters == attention + router + 4 * expert + 2 * 32
    assert block.active_parameters == attention + router + 2 * expert + 2 * 32
    assert block.weight_bytes == 4 * block.active_parameters
    assert block.kind == "full attention + MoE (2 of 4)"
    assert shape_of("mixtral").kind == "moe"


def test_experts_run_on_zeros_cost_nothing(shape_of):
    """Llama 4 runs every expert on every token, on zeros where it was not chosen: all experts counted as active."""
    sparse = shape_of("llama4_text").blocks[1]
    assert sparse.experts == Experts(total=4, active=2)
    # Experts and a shared one, each of 64.
    assert sparse.product_weights == LLAMA_BLOCK - LLAMA_MLP + 4 * 32 + (2 + 1) * LLAMA_MLP


def test_experts_side_by_side_in_a_matrix(shape_of):
    """DBRX keeps its experts in matrices of two axes: no third axis says how many there are."""
    block = shape_of("dbrx").blocks[0]
    assert block.experts == Experts(total=4, active=2)
    assert block.product_weights == LLAMA_BLOCK - LLAMA_MLP + 4 * 32 + 2 * LLAMA_MLP


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
    shape = model_shape(ModelAdapter(model))
    assert _product_weights(shape) == (LLAMA_BLOCK, dense + 3 * 32 + 32 * 32)
    assert shape.blocks[1].experts == Experts(total=3, active=1)
    assert shape.blocks[1].active_parameters == dense + 3 * 32 + 32 * 32 + 2 * 32


def test_state_space_model(shape_of):
    """A recurrent state taken for one that grows, or the other way round."""
    shape = shape_of("mamba")
    block = shape.blocks[0]
    assert (shape.kind, block.kind) == ("ssm", "SSM")
    # 64 channels: a state of 8 each, and the last 4 inputs of the convolution.
    assert (block.state_bytes, block.state_bytes_per_position) == (4 * 64 * (8 + 4), 0)
    assert block.flops_per_position == 0
    assert block.decode_flops(10) == block.decode_flops(10_000)


def test_hybrid(shape_of):
    """Blocks of several kinds reported as one, or each counted like the first."""
    shape = shape_of("nemotron_h")
    assert [block.kind for block in shape.blocks] == ["SSM", "MoE (2 of 4)", "full attention", "MLP"]
    assert shape.kind == "hybrid"
    assert shape.blocks[3].product_weights == 2 * 32 * 64
    assert shape.blocks[3].state_bytes == shape.blocks[3].state_bytes_per_position == 0
    both = shape_of("falcon_h1").blocks[0]
    assert both.kind == "full attention + SSM + MLP"
    assert both.state_bytes > 0 < both.state_bytes_per_position


def test_windows(shape_of):
    """A window taken from a config for blocks that have none."""
    blocks = shape_of("gemma3_text").blocks
    assert [block.window for block in blocks] == [8, None, 8, 8]
    assert blocks[0].decode_flops(8) == blocks[0].decode_flops(800) < blocks[1].decode_flops(800)


def test_latent_attention_expands_what_is_cached(shape_of):
    """Keys and values made anew from the cache for every token: a cost that grows with the context, counted once."""
    block = shape_of("deepseek_v3").blocks[0]
    expansion = 16 * 4 * (8 + 8)  # latent 16 to 4 heads of 8 for keys and 8 for values
    attention = 4 * (16 + 8)  # queries of 16 against keys, and values of 8
    assert block.flops_per_position == 2 * (expansion + attention)
    assert block.fixed_flops == 2 * (block.product_weights - expansion)


def test_returned_state_is_found(shape_of):
    """xLSTM's blocks return their state and the model keeps it: no cache is written while a block runs."""
    block = shape_of("xlstm").blocks[0]
    # Per head a matrix of 16 x 16, a vector of 16 and a number, for 4 heads.
    assert block.state_bytes == 4 * 4 * (16 * 16 + 16 + 1)


def test_state_in_stacked_tensors(shape_of):
    """RWKV keeps the states of all blocks in one tensor: every block given all of it."""
    assert [block.state_bytes for block in shape_of("rwkv").blocks] == [4 * 5 * 32] * 4


def test_blocks_that_share_keys_and_values(shape_of):
    """Gemma 3n's last blocks read the keys and values of earlier ones: state counted twice, or no attention seen."""
    blocks = shape_of("gemma3n_text").blocks
    assert [block.state_bytes_per_position for block in blocks] == [128, 128, 128, 0, 0]
    assert all(block.flops_per_position == 128 for block in blocks)


def test_unequal_blocks_have_unequal_costs():
    """Costs of 1/L whatever the blocks' sizes."""
    model = toy_model("llama", num_blocks=2)
    mlp = model.model.layers[1].mlp
    for name in ("gate_proj", "up_proj"):
        linear = getattr(mlp, name)
        linear.weight = type(linear.weight)(linear.weight[:32].clone(), requires_grad=False)
    mlp.down_proj.weight = type(mlp.down_proj.weight)(mlp.down_proj.weight[:, :32].clone(), requires_grad=False)
    shape = model_shape(ModelAdapter(model))
    assert _product_weights(shape) == (LLAMA_BLOCK, LLAMA_BLOCK - 3 * 32 * 32)
    assert shape.block_costs == pytest.approx((9216 / 15360, 6144 / 15360))


def test_a_projection_used_twice_counts_twice():
    """Shared weights counted once although they are executed at each use."""
    model = toy_model("llama", num_blocks=2)
    attention = model.model.layers[0].self_attn
    attention.v_proj = attention.k_proj
    assert _product_weights(model_shape(ModelAdapter(model))) == (LLAMA_BLOCK, LLAMA_BLOCK)


@pytest.mark.parametrize("share", ["weights", "modules"])
def test_what_blocks_share_counts_at_each_execution(share):
    """One set of weights run in several blocks: a cost of zero for all but one of them, or parameters counted twice."""
    model = toy_model("llama", num_blocks=3)
    first, last = model.model.layers[0], model.model.layers[2]
    if share == "modules":
        last.mlp = first.mlp
    else:
        for name in ("gate_proj", "up_proj", "down_proj"):
            getattr(last.mlp, name).weight = getattr(first.mlp, name).weight
    shape = model_shape(ModelAdapter(model))
    assert _product_weights(shape) == (LLAMA_BLOCK,) * 3
    assert shape.parameters.total == shape.num_parameters == sum(p.numel() for p in model.parameters())
    assert shape.active_parameters is None


def test_zamba_counts_its_shared_block_at_each_depth(shape_of):
    """One attention block, used at three depths: counted at one of them, or three times in the parameters."""
    shape = shape_of("zamba")
    kinds = [block.kind for block in shape.blocks]
    assert kinds == ["SSM", "full attention + SSM + MLP"] * 3
    assert len({block.product_weights for block in shape.blocks[1::2]}) == 1
    assert sum(block.parameters for block in shape.blocks) > shape.parameters.blocks
    assert shape.parameters.total == shape.num_parameters


class _Predictor(torch.nn.Module):
    """A block for predicting one token more, which does not run when text is read."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(32, 32)])


def test_what_does_not_run_is_idle():
    """Blocks for predicting several tokens, or towers for images, counted among what a token passes through."""
    model = toy_model()
    plain = model_shape(ModelAdapter(model))
    model.mtp = _Predictor()
    shape = model_shape(ModelAdapter(model))
    assert shape.parameters.idle == 32 * 32 + 32
    assert shape.parameters.total == shape.num_parameters == plain.num_parameters + 32 * 32 + 32
    assert shape.blocks == plain.blocks


class _Gated(torch.nn.Module):
    """An MLP whose matrices are used element by element only."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = torch.nn.Parameter(torch.ones(32, 32))

    def forward(self, hidden):
        return (hidden[..., None] * self.gate).sum(-2)


def test_block_without_matrix_products_is_refused():
    """A cost of zero for a block whose work is not seen."""
    model = toy_model(num_blocks=2)
    layer = model.model.layers[1]
    layer.mlp, layer.self_attn = _Gated(), torch.nn.Identity()
    layer.self_attn.forward = lambda hidden_states, **_: (hidden_states, None)
    with pytest.raises(ValidationError, match="cannot count the cost of block 2 of LlamaForCausalLM: no matrix"):
        model_shape(ModelAdapter(model))


class _PackedLinear(torch.nn.Module):
    """A linear map whose weight is packed into bytes, as quantised ones are."""

    def __init__(self, linear):
        super().__init__()
        self.out_features, self.in_features = linear.weight.shape
        packed = torch.randint(0, 255, (linear.weight.numel() // 2, 1), dtype=torch.uint8)
        self.weight = torch.nn.Parameter(packed, requires_grad=False)
        self._plain = linear.weight.clone()

    def forward(self, hidden):
        return functional.linear(hidden, self._plain)


def test_packed_weights_count_by_their_stated_sizes():
    """A quantised linear map counted by its bytes, or not at all, because no product with its parameter is seen."""
    model = toy_model(num_blocks=2)
    mlp = model.model.layers[0].mlp
    mlp.gate_proj = _PackedLinear(mlp.gate_proj)
    shape = model_shape(ModelAdapter(model))
    assert _product_weights(shape) == (LLAMA_BLOCK, LLAMA_BLOCK)
    # Half a byte a number instead of four.
    assert shape.blocks[0].weight_bytes == shape.blocks[1].weight_bytes - 32 * 64 * 4 + 32 * 64 // 2


def test_without_a_cache_no_cost_of_a_decoded_token(shape_of):
    """GPT-1 has no cache: a linear cost made up where every token runs all positions again."""
    block = shape_of("openai-gpt").blocks[0]
    assert (block.fixed_flops, block.flops_per_position, block.decode_flops(9)) == (None, None, None)
    assert block.product_weights == 12 * 32 * 32


def test_flops_are_those_of_a_longer_context(shape_of):
    """A cost a position that holds only at the context where it was found."""
    adapter = ModelAdapter(toy_model("gemma3_text"))
    near = model_shape(adapter).blocks
    with patch.object(anatomy, "_PROMPT_TOKENS", 3):
        other = model_shape(adapter).blocks
    assert other == near


def test_shape_survives_its_json(shape_of):
    """A trace whose shape cannot be read back as it was."""
    shape = shape_of("nemotron_h")
    assert type(shape).model_validate_json(shape.model_dump_json()) == shape
    assert replace(ModelAdapter(toy_model()).paths, quirks=()).num_blocks == 4
