"""The view of a model beyond what the contract of every family covers."""

import pytest
import torch

from exitbench.models.adapter import ModelAdapter
from exitbench.models.discover import probe_ids
from exitbench.models.toy import toy_model


@pytest.fixture(scope="module")
def adapter():
    return ModelAdapter(toy_model())


def test_capture_equals_transformers_hidden_states(adapter):
    """Depths off by one against the library's own list, whose last entry alone is normed."""
    ids = probe_ids(adapter.model)
    with torch.inference_mode():
        states = adapter.model(input_ids=ids, output_hidden_states=True).hidden_states
    hidden = adapter.capture(ids)
    for depth in range(adapter.num_blocks):
        assert torch.equal(hidden[depth], states[depth][0])
    assert torch.equal(adapter.model.model.norm(hidden[-1]), states[-1][0])


def test_captured_states_are_copies(adapter):
    """A hidden state that a later block changes in place."""
    ids = probe_ids(adapter.model)
    kept = adapter.capture(ids)
    before = kept.clone()
    adapter.capture(ids.flip(1))
    assert torch.equal(kept, before)


def test_readout_applies_norm_and_head_once(adapter):
    """A readout that runs the wrong code after the blocks."""
    model = adapter.model
    hidden = adapter.capture(probe_ids(model))[2]
    assert torch.allclose(adapter.readout(hidden), model.lm_head(model.model.norm(hidden)), rtol=1e-5, atol=1e-5)


def test_readout_runs_no_block(adapter):
    """A readout as dear as a whole pass: the right logits, and every block computed for nothing."""
    ran = []
    hooks = [b.mlp.register_forward_hook(lambda *_: ran.append(0)) for b in adapter.blocks]
    adapter.readout(torch.zeros(2, adapter.hidden_size))
    assert not ran
    adapter.capture(probe_ids(adapter.model))
    assert len(ran) == adapter.num_blocks
    for hook in hooks:
        hook.remove()


def test_readout_puts_the_blocks_back_after_an_error(adapter, monkeypatch):
    """An interrupted readout that leaves the blocks replaced: every later pass would be wrong in silence."""
    ids = probe_ids(adapter.model)
    with torch.inference_mode():
        before = adapter.model(input_ids=ids).logits
    with pytest.raises(RuntimeError):
        adapter.readout(torch.zeros(2, 5))
    with torch.inference_mode():
        assert torch.equal(adapter.model(input_ids=ids).logits, before)


def test_readout_keeps_a_forward_that_was_replaced_before(adapter, monkeypatch):
    """A block wrapped by somebody else (offloading, compilation) that loses its wrapper."""
    block = adapter.blocks[1]
    wrapped = block.forward
    monkeypatch.setitem(vars(block), "forward", wrapped)
    adapter.readout(torch.zeros(2, adapter.hidden_size))
    assert vars(block)["forward"] is wrapped


def test_given_paths_are_taken(adapter):
    """An adapter given as data that is discovered anew all the same."""
    again = ModelAdapter(adapter.model, adapter.paths)
    assert again.paths is adapter.paths
    assert again.blocks == adapter.blocks
