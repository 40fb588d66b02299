"""What a skipped block must still compute, against counts by hand; all toys are 32 wide and in float32."""

import pytest
import torch

from exitbench.models.adapter import ModelAdapter
from exitbench.models.anatomy import model_shape
from exitbench.models.toy import toy_model

STATE_FLOPS = 3  # to update one element of a state of fixed size


@pytest.fixture(scope="module")
def blocks_of():
    """Blocks of toys in their full variety, each type counted once."""
    counted = {}

    def blocks(model_type):
        if model_type not in counted:
            counted[model_type] = model_shape(ModelAdapter(toy_model(model_type, num_blocks=None))).blocks
        return counted[model_type]

    return blocks


def _ssm_state(channels, convolved, states=8):
    """Elements: the last four inputs of the convolution, and a state of 8 a channel."""
    return 4 * convolved + states * channels


# Model type, index of a block, multiply-adds with weights, elements of the state of fixed size.
CASES = {
    "llama: keys and values of 2 heads of 8": ("llama", 0, 2 * 16 * 32, 0),
    "gpt2: two thirds of the fused c_attn": ("gpt2", 0, 2 * 32 * 32, 0),
    "gemma3: keys and values of 1 head, sliding": ("gemma3_text", 0, 2 * 8 * 32, 0),
    "gemma3: the same, full attention": ("gemma3_text", 1, 2 * 8 * 32, 0),
    "mixtral: no expert": ("mixtral", 0, 2 * 16 * 32, 0),
    "deepseek: the latent of 16 and the rotated 8, not their expansion": ("deepseek_v3", 0, (16 + 8) * 32, 0),
    "deepseek sparse: and the key of the indexer, which runs without gradients": (
        *("deepseek_v32", 0),
        (16 + 8 + 8) * 32,
        0,
    ),
    # Half of in_proj (not the gate), the convolution, the rows of x_proj for dt (4) and B (8) but not C, dt_proj.
    "mamba: neither gate, C nor output": ("mamba", 0, 64 * 32 + 64 * 4 + (4 + 8) * 64 + 64 * 4, _ssm_state(64, 64)),
    # C is convolved too, so its inputs are state, though the convolution's result is not.
    "mamba2: x, B, C and dt of in_proj, x and B of the convolution": (
        *("mamba2", 0),
        (64 + 8 + 8 + 8) * 32 + (64 + 8) * 4,
        _ssm_state(64, 80),
    ),
    # Queries too are convolved; z is not. Beta and decay are 4 each; 4 heads with a state of 8 x 8.
    "qwen3_next: linear attention": (
        *("qwen3_next", 0),
        (16 + 16 + 32) * 32 + 8 * 32 + (16 + 32) * 4,
        4 * 64 + 4 * 8 * 8,
    ),
    "qwen3_next: full attention": ("qwen3_next", 1, 2 * 16 * 32, 0),
    "xlstm: a returned state": ("xlstm", 0, 2 * 64 * 64 + 2 * 4 * 64, 4 * (16 * 16 + 16 + 1)),
    # The MLP keeps its input, which is what the attention made of it: all of the attention's four matrices.
    "rwkv: a state in stacked tensors": ("rwkv", 1, 4 * 32 * 32, 5 * 32),
    "lfm2: two of the three parts of in_proj": ("lfm2", 0, 2 * 32 * 32, 3 * 32),
    "falcon_h1: attention and SSM side by side": (
        *("falcon_h1", 0),
        2 * 16 * 32 + (64 + 8 + 8 + 8) * 32 + (64 + 8) * 4,
        _ssm_state(64, 80),
    ),
    "nemotron_h: experts keep no state": ("nemotron_h", 1, 0, 0),
    "nemotron_h: nor does an MLP": ("nemotron_h", 3, 0, 0),
    "gemma3n: a block that reads the keys of another": ("gemma3n_text", 3, 0, 0),
}


@pytest.mark.parametrize(("model_type", "index", "multiply_adds", "elements"), CASES.values(), ids=CASES.keys())
def test_counts_by_hand(blocks_of, model_type, index, multiply_adds, elements):
    """All of a fused projection counted for the part of it that feeds the state, or a matrix forgotten."""
    block = blocks_of(model_type)[index]
    assert block.completion_reason is None
    assert block.completion_flops == 2 * multiply_adds + STATE_FLOPS * elements
    assert block.completion_flops_per_position == 0


def test_bytes_are_those_of_what_the_state_depends_on(blocks_of):
    """Norms and biases left out, although they are read too, or everything in the block read."""
    assert blocks_of("llama")[0].completion_weight_bytes == 4 * (2 * 16 * 32 + 32)
    # GPT-2: two thirds of the bias, and weight and bias of the norm.
    assert blocks_of("gpt2")[0].completion_weight_bytes == 4 * (2 * 32 * 32 + 2 * 32 + 2 * 32)
    assert blocks_of("nemotron_h")[3].completion_weight_bytes == 0


def test_attention_that_feeds_a_recurrence(blocks_of):
    """Zamba's attention runs before the recurrence of the same block: a completion that skips it."""
    block = blocks_of("zamba2")[1]
    assert block.completion_flops_per_position == block.flops_per_position > 0
    assert block.fixed_flops / 2 < block.completion_flops < block.fixed_flops


def test_of_two_attentions_the_second_feeds_nothing(blocks_of):
    """LongCat has two attentions a block: scores of the second counted, although they only feed the output."""
    block = blocks_of("longcat_flash")[0]
    assert block.completion_flops_per_position == block.flops_per_position / 2


def test_without_a_cache_a_reason(blocks_of):
    """Zero where every token runs all positions again."""
    block = blocks_of("openai-gpt")[0]
    assert (block.completion_flops, block.completion_weight_bytes) == (None, None)
    assert block.completion_reason == "the model has no cache"


class _Packed(torch.nn.Linear):
    """A linear map that computes from packed weights."""

    def __init__(self, linear):
        super().__init__(linear.in_features, linear.out_features, bias=False)
        self.plain = [linear.weight.clone()]
        self.weight = torch.nn.Parameter(torch.zeros(linear.weight.shape, dtype=torch.int8), requires_grad=False)

    def forward(self, hidden):
        return torch.nn.functional.linear(hidden, self.plain[0])


def test_quantised_weights_are_not_guessed():
    """Packed weights without gradients taken for weights that the state does not depend on."""
    model = toy_model("llama", num_blocks=2)
    attention = model.model.layers[1].self_attn
    attention.k_proj = _Packed(attention.k_proj)
    first, second = model_shape(ModelAdapter(model)).blocks
    assert first.completion_flops == 2 * 2 * 16 * 32
    assert second.completion_flops is None
    assert second.completion_reason == "model.layers.1.self_attn.k_proj is quantised"


class _Buffered(torch.nn.Module):
    """A linear map whose weights are buffers of another name, and which gradients pass through."""

    def __init__(self, linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("qweight", linear.weight.clone())

    def forward(self, hidden):
        return torch.nn.functional.linear(hidden, self.qweight)


def test_weights_in_buffers_are_not_guessed():
    """Weights that are no parameters and have no gradient: values that seem to cost nothing."""
    model = toy_model("llama", num_blocks=2)
    attention = model.model.layers[0].self_attn
    attention.v_proj = _Buffered(attention.v_proj)
    first, second = model_shape(ModelAdapter(model)).blocks
    assert (first.completion_flops, second.completion_flops) == (None, 2 * 2 * 16 * 32)
    assert first.completion_reason == "model.layers.0.self_attn.v_proj is quantised"


def test_state_past_autograd_is_not_guessed():
    """A kernel that autograd cannot follow: a state that seems to need no weights at all."""
    model = toy_model("llama", num_blocks=2)
    values = model.model.layers[0].self_attn.v_proj
    inner = values.forward
    values.forward = lambda hidden: inner(hidden).detach()
    first, second = model_shape(ModelAdapter(model)).blocks
    assert (first.completion_flops, second.completion_flops) == (None, 2 * 2 * 16 * 32)
    assert first.completion_reason == "it writes its state in code that autograd does not see"


def test_counting_leaves_no_trace():
    """Gradients left on, or a recurrent state left behind in modules: the next pass computes something else."""
    for model_type in ("mamba", "recurrent_gemma", "rwkv"):
        model = toy_model(model_type, num_blocks=None)
        ids = torch.tensor([[5, 9, 200, 3]])
        before = model(input_ids=ids, use_cache=False).logits
        model_shape(ModelAdapter(model))
        after = model(input_ids=ids, use_cache=False).logits
        assert torch.equal(before, after)
        assert not after.requires_grad
        assert not any(p.requires_grad for p in model.parameters())


def test_half_precision_counts_the_same():
    """Gradients that vanish in bfloat16: elements of matrices taken for idle."""
    shape = model_shape(ModelAdapter(toy_model("mamba2", num_blocks=2, dtype=torch.bfloat16)))
    plain = model_shape(ModelAdapter(toy_model("mamba2", num_blocks=2)))
    assert [b.completion_flops for b in shape.blocks] == [b.completion_flops for b in plain.blocks]
