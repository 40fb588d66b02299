"""Finding a model's parts by watching a pass, and refusing what is no plain stack of blocks."""

import pytest
import torch

from exitbench.errors import ValidationError
from exitbench.models.adapter import ModelAdapter
from exitbench.models.discover import discover, probe_ids
from exitbench.models.stream import Layout
from exitbench.models.toy import toy_model


@pytest.mark.parametrize(
    ("family", "embedding", "blocks", "tail"),
    [
        ("llama", "model.embed_tokens", "model.layers", ("model.norm", "lm_head")),
        ("gemma3_text", "model.embed_tokens", "model.layers", ("model.norm", "lm_head")),
        ("gpt2", "transformer.wte", "transformer.h", ("transformer.ln_f", "lm_head")),
        ("gpt_neox", "gpt_neox.embed_in", "gpt_neox.layers", ("gpt_neox.final_layer_norm", "lm_head")),
        (
            "opt",
            "model.decoder.embed_tokens",
            "model.decoder.layers",
            ("model.decoder.final_layer_norm", "model.decoder.project_out", "lm_head"),
        ),
    ],
)
def test_parts_by_family(family, embedding, blocks, tail):
    """Paths of another list of modules, or a tail that begins inside the last block."""
    paths = discover(toy_model(family, num_blocks=3))
    assert (paths.embedding, paths.blocks, paths.tail) == (embedding, tuple(f"{blocks}.{i}" for i in range(3)), tail)
    assert (paths.head, paths.num_blocks, paths.hidden_size, paths.vocab_size) == ("lm_head", 3, 32, 259)


def test_quirks_name_what_a_naive_readout_gets_wrong(make_toy):
    """A soft-cap or a projection that goes unnoticed."""
    assert discover(toy_model("llama")).quirks == ()
    assert "soft-cap" in discover(toy_model("gemma3_text")).quirks[0]
    assert discover(make_toy("gemma3_text", final_logit_softcapping=None)).quirks == ()
    assert discover(toy_model("opt")).quirks == ("2 modules between blocks and head",)
    # Post-norm OPT has no final norm at all.
    post_norm = discover(make_toy("opt", do_layer_norm_before=False, word_embed_proj_dim=32))
    assert post_norm.tail == ("lm_head",)
    assert post_norm.quirks == ("0 modules between blocks and head",)


def test_probe_is_the_same_every_time():
    """Probe tokens drawn from the global state: a proof that cannot be repeated."""
    model = toy_model()
    torch.manual_seed(1)
    first = probe_ids(model)
    torch.manual_seed(2)
    assert torch.equal(first, probe_ids(model))
    assert first.shape == (1, 24)
    assert first.max() < 259


class _Reversed(torch.nn.ModuleList):
    """A list whose owner runs it from the end."""

    def __getitem__(self, index):
        return list(self)[index][::-1] if isinstance(index, slice) else list(self)[index]


class _Twice(torch.nn.ModuleList):
    """A list whose owner runs every entry two times."""

    def __getitem__(self, index):
        chosen = list(self)[index]
        return [block for block in chosen for _ in range(2)] if isinstance(index, slice) else chosen


@pytest.mark.parametrize(("kind", "order"), [(_Reversed, [3, 2, 1, 0]), (_Twice, [0, 0, 1, 1, 2, 2, 3, 3])])
def test_depth_follows_the_order_in_which_blocks_run(kind, order):
    """Depths numbered by place in the list where blocks run in another order, or more than once."""
    model = toy_model()
    model.model.layers = kind(list(model.model.layers))
    adapter = ModelAdapter(model)
    assert adapter.paths.blocks == tuple(f"model.layers.{i}" for i in order)
    assert ("some blocks run more than once" in adapter.paths.quirks) is (kind is _Twice)
    ids = probe_ids(model)
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False).logits[0]
    assert torch.equal(adapter.readout(adapter.capture(ids)[-1]), logits)


def test_one_module_at_two_depths():
    """A block that stands in the list twice seen at one depth only, or given one hidden state for both."""
    model = toy_model(num_blocks=3)
    model.model.layers[2] = model.model.layers[0]
    adapter = ModelAdapter(model)
    assert adapter.paths.blocks == tuple(f"model.layers.{i}" for i in (0, 1, 0))
    ids = probe_ids(model)
    hidden = adapter.capture(ids)
    with torch.inference_mode():
        states = model(input_ids=ids, use_cache=False, output_hidden_states=True).hidden_states
        assert torch.equal(adapter.readout(hidden[-1]), model(input_ids=ids, use_cache=False).logits[0])
    assert hidden.shape[0] == 4
    assert torch.equal(hidden[1], states[1][0])


def test_a_skipped_block_is_refused():
    """A config that runs fewer blocks than there are weights: L would count one that never ran."""
    model = toy_model()
    model.config.num_hidden_layers = 3
    with pytest.raises(ValidationError, match=r"tried model\.layers: model\.layers\.3 never ran"):
        discover(model)


def test_a_config_that_states_another_depth_is_refused():
    """A card for a model of 12 blocks that has 4."""
    model = toy_model("gpt2")
    model.config.n_layer = 6
    with pytest.raises(ValidationError, match=r"says num_hidden_layers = 6, n_layer = 6, but 4 blocks run; mend"):
        discover(model)


def test_an_early_exit_that_the_model_ignores_is_refused():
    """A checkpoint said to leave after block 2, run and scored to its end."""
    model = toy_model()
    model.config.early_exit_layer = 2
    with pytest.raises(ValidationError, match="says early_exit_layer = 2, but all 4 blocks run: transformers ignores"):
        discover(model)
    model.config.early_exit_layer = 4
    assert discover(model).num_blocks == 4
    for value in ([2, 4], "3"):
        model.config.early_exit_layer = value
        with pytest.raises(ValidationError, match="transformers ignores"):
            discover(model)


def test_something_between_two_blocks_is_refused():
    """Code between the blocks (a shared residual, a pooled state) that the view would leave out."""
    model = toy_model()
    model.model.layers[2].register_forward_pre_hook(lambda _, args: (args[0] + 1, *args[1:]))
    with pytest.raises(ValidationError, match=r"layers\.2 does not start from what model\.layers\.1 returned"):
        discover(model)


def test_a_constant_factor_between_two_blocks_is_found(make_toy):
    """RWKV's hidden state, halved every few blocks, taken for something that is no chain."""
    paths = discover(make_toy("rwkv", num_blocks=5, rescale_every=2))
    assert paths.scales == (1, 0.5, 1, 0.5, 1)
    assert paths.quirks[0] == "the hidden state is multiplied by 0.5 after block 2"


def test_streams_are_found():
    """Hyper-connections or alternating updates taken for one stream, or for no hidden state at all."""
    before = discover(toy_model("gemma3n_text", num_blocks=None))
    assert (before.layout, before.hidden_size) == (Layout(before=(4,), after=(32,)), 128)
    behind = discover(toy_model("deepseek_v4"))
    assert (behind.layout, behind.hidden_size) == (Layout(before=(), after=(4, 32)), 128)
    assert "4 streams a token between blocks" in before.quirks + behind.quirks


def test_a_larger_list_that_is_no_chain_is_not_passed_over():
    """The real stack left aside, because something is between its blocks, for a small list that happens to chain."""
    model = toy_model()
    model.model.layers[2].register_forward_pre_hook(lambda _, args: (args[0] + 1, *args[1:]))
    model.model.layers[0].mlp.gate_proj = _Chained()
    with pytest.raises(ValidationError, match="no chain of blocks found"):
        discover(model)


class _Chained(torch.nn.Module):
    """Two maps in a list, one after the other."""

    def __init__(self):
        super().__init__()
        self.steps = torch.nn.ModuleList([torch.nn.Linear(32, 64), torch.nn.Linear(64, 64)])

    def forward(self, hidden):
        for step in self.steps:
            hidden = step(hidden)
        return hidden


def test_no_head_is_refused(monkeypatch):
    """A model without a language-model head, or whose head is not what makes the logits."""
    model = toy_model()
    monkeypatch.setattr(model, "get_output_embeddings", lambda: None)
    with pytest.raises(ValidationError, match="no language-model head that runs after its blocks"):
        discover(model)
    monkeypatch.setattr(model, "get_output_embeddings", lambda: model.model.layers[0].mlp.up_proj)
    with pytest.raises(ValidationError, match="no language-model head"):
        discover(model)


def test_watching_leaves_nothing_behind():
    """Hooks that stay on the model, or a refusal that forgets to take them off."""
    model = toy_model()
    discover(model)
    model.config.num_hidden_layers = 3
    with pytest.raises(ValidationError):
        discover(model)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
