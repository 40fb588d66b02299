"""Models that are not what a decoder needs: refused, or used for what they can do."""

import pytest
import torch

from exitbench.decode.decoder import ExitDecoder
from exitbench.decode.stack import Stack
from exitbench.decode.trial import find_abilities
from exitbench.errors import DecodeError
from exitbench.models.load import prove
from exitbench.models.toy import toy_model
from exitbench.policies.static import FixedDepth


def _wrapped(block, change):
    """Let what a block returns be changed: `change(output, arguments)`."""
    inner = block.forward
    block.forward = lambda *args, **kwargs: change(inner(*args, **kwargs), kwargs)


def test_what_is_found_of_a_llama(proved, abilities):
    """Shortcuts that are never found, or layers of the cache counted to the wrong block."""
    assert abilities.layers == ((0,), (1,), (2,), (3,))
    assert abilities.chunks == (True,) * 4
    assert abilities.separates_rows
    assert abilities.rolls_back
    for write, block in zip(abilities.writes, proved.adapter.blocks, strict=True):
        assert write.num_writes == 1
        assert write.idle == (block.self_attn.q_proj,)


def test_a_block_that_takes_what_another_computed_is_refused():
    """Blocks that hand each other more than a hidden state, decoded as if they did not."""
    proved = prove("chatty", toy_model(dtype=torch.float64))
    handed = []

    def hand_over(output, _):
        handed[:] = [output]
        return output

    _wrapped(proved.adapter.blocks[1], hand_over)
    _wrapped(proved.adapter.blocks[3], lambda output, _: output + handed[0][:, -1:])
    with pytest.raises(
        DecodeError, match=r"LlamaForCausalLM cannot be decoded with early exit: tokens .* differ"
    ) as caught:
        ExitDecoder(proved, FixedDepth())
    assert "\n" not in str(caught.value)


def test_a_block_that_fails_is_refused_in_one_line():
    """A traceback where a sentence was promised."""
    proved = prove("broken", toy_model(dtype=torch.float64))
    lengths = []

    def fail(output, kwargs):
        lengths.append(output.shape[1])
        if len(lengths) > 12:
            raise RuntimeError("no more\nof this")
        return output

    _wrapped(proved.adapter.blocks[2], fail)
    with pytest.raises(DecodeError, match="cannot be decoded with early exit: no more") as caught:
        ExitDecoder(proved, FixedDepth())
    assert "\n" not in str(caught.value)


def test_blocks_that_mix_waiting_tokens_get_them_one_by_one():
    """A kind of block that is wrong on several tokens at once, run so all the same; or all kinds demoted for one."""
    proved = prove("mixing", toy_model("gemma3_text", num_blocks=4, dtype=torch.float64))
    full = [block.window is None for block in proved.shape.blocks]
    assert len(set(full)) == 2

    def mix(output, kwargs):
        past = kwargs["past_key_values"]
        several = past is not None and past.get_seq_length() > 0 and output.shape[1] > 1
        return output + output.mean(1, keepdim=True) if several else output

    for block, attends_to_all in zip(proved.adapter.blocks, full, strict=True):
        if attends_to_all:
            _wrapped(block, mix)
    found = find_abilities(proved, Stack(proved.adapter))
    assert found.chunks == tuple(not attends_to_all for attends_to_all in full)


def test_a_state_kept_elsewhere_cannot_be_put_back():
    """Drafts that were rejected and live on in a block; rows that share what is kept outside the cache."""
    proved = prove("hoarding", toy_model(dtype=torch.float64))
    kept = {}

    def hoard(output, _):
        """A running mean, as a recurrence keeps it in its module; anew with every prompt."""
        if output.shape[1] > 9:  # more than ever wait
            kept.clear()
        carried = []
        for token in output.unbind(1):
            kept["mean"] = token if "mean" not in kept else 0.5 * kept["mean"] + 0.5 * token
            carried.append(kept["mean"])
        return output + torch.stack(carried, 1)

    _wrapped(proved.adapter.blocks[2], hoard)
    found = find_abilities(proved, Stack(proved.adapter))
    assert not found.rolls_back
    assert not found.separates_rows
    with pytest.raises(DecodeError, match="state 'lossless' is not possible with LlamaForCausalLM"):
        ExitDecoder(proved, FixedDepth(), state="lossless", abilities=found)


def test_a_trial_leaves_the_model_as_it_was(proved):
    """Recorders, hooks or state that stay in a model which is measured next."""
    ids = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        before = proved.model(input_ids=ids).logits
        find_abilities(proved, Stack(proved.adapter))
        assert torch.equal(proved.model(input_ids=ids).logits, before)
    assert not any(
        module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
        for module in proved.model.modules()
    )
