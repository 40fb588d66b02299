"""A Llama whose decision depths are known in advance: both ends of EES and the ramp between, in closed form.

Its attention writes nothing; each block's MLP adds 1 to coordinate 0 of the residual stream, by its bias. The head
looks at the sign of that coordinate alone: token YES if positive, NO if negative. A token whose embedding starts at
1/2 - c turns positive after exactly c blocks.
"""

import numpy as np
import pytest
import torch

from exitbench.models.toy import byte_tokenizer

NUM_BLOCKS = 5
YES, NO = 40, 30
VOCAB_SIZE = len(byte_tokenizer())


@pytest.fixture(scope="module")
def turning_llama(make_toy, silence):
    """(V,) depth at which each token is to be decided -> a Llama that does so."""

    def build(turns_at, dtype=torch.float32):
        model = make_toy("llama", num_blocks=NUM_BLOCKS, mlp_bias=True, tie_word_embeddings=False, dtype=dtype)
        silence(model, NUM_BLOCKS)
        for block in model.model.layers:
            block.mlp.down_proj.bias[0] = 1.0
        model.model.embed_tokens.weight[:, 0] = 0.5 - turns_at
        model.lm_head.weight.zero_()
        model.lm_head.weight[YES, 0] = 1.0
        model.lm_head.weight[NO, 0] = -1.0
        return model

    return build


@pytest.mark.parametrize("depth", [0, 2, NUM_BLOCKS])
def test_every_token_decided_at_one_depth(depth, turning_llama, trace_of, card_of):
    """An end that cannot be reached: EES is 1 where nothing is needed and 0 where the last block decides all."""
    trace = trace_of(turning_llama(torch.full((VOCAB_SIZE,), float(depth))))
    assert set(trace.decision_depth) == {depth}
    card = card_of(trace)
    assert card.ees.value == pytest.approx(1 - depth / NUM_BLOCKS, abs=1e-12)
    assert card.decided.value == [float(d >= depth) for d in range(NUM_BLOCKS + 1)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("on", ["text", "answers"])
def test_ramp(dtype, on, turning_llama, trace_of, card_of):
    """Tokens' depths mixed up, shifted against the tokens, or averaged with the wrong weights."""
    turns_at = torch.arange(VOCAB_SIZE) % (NUM_BLOCKS + 1)
    trace = trace_of(turning_llama(turns_at, dtype), on=on)
    expected = turns_at.numpy()[trace.input_id]
    assert np.array_equal(trace.decision_depth, expected)
    if on == "text":
        assert set(expected) == set(range(NUM_BLOCKS + 1))
    assert card_of(trace).ees.value == pytest.approx(np.mean(1 - expected / NUM_BLOCKS), abs=1e-12)
