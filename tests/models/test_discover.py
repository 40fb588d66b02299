"""Finding a model's parts by watching a pass, and refusing what is no plain stack of blocks."""

import pytest
import torch

from exitbench.errors import ValidationError
from exitbench.models.discover import discover, probe_ids
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
    assert (paths.embedding, paths.blocks, paths.tail) == (embedding, blocks, tail)
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


@pytest.mark.parametrize("kind", [_Reversed, _Twice])
def test_blocks_in_another_order_are_refused(kind):
    """Depths numbered by place in the list where blocks run in another order, or more than once."""
    model = toy_model()
    model.model.layers = kind(list(model.model.layers))
    with pytest.raises(ValidationError, match=r"no chain of blocks.*model\.layers: \d calls for 4 entries"):
        discover(model)


def test_a_skipped_block_is_refused():
    """A config that runs fewer blocks than there are weights: L would count one that never ran."""
    model = toy_model()
    model.config.num_hidden_layers = 3
    with pytest.raises(ValidationError, match=r"tried model\.layers: 3 calls for 4 entries"):
        discover(model)


def test_something_between_two_blocks_is_refused():
    """Code between the blocks (a shared residual, a pooled state) that the view would leave out."""
    model = toy_model()
    model.model.layers[2].register_forward_pre_hook(lambda _, args: (args[0] * 1.01, *args[1:]))
    with pytest.raises(ValidationError, match="entry 2 does not start from what entry 1 returned"):
        discover(model)


def test_no_head_is_refused(monkeypatch):
    """A model without a language-model head, or whose head is not what makes the logits."""
    model = toy_model()
    monkeypatch.setattr(model, "get_output_embeddings", lambda: None)
    with pytest.raises(ValidationError, match="no language-model head that runs after its blocks"):
        discover(model)
    monkeypatch.setattr(model, "get_output_embeddings", lambda: model.model.layers[0].mlp.up_proj)
    with pytest.raises(ValidationError, match="no language-model head"):
        discover(model)


def test_weights_that_no_linear_map_used_are_refused():
    """Experts stacked in one tensor: a cost that leaves most of a block's work out."""
    model = toy_model()
    model.model.layers[1].mlp.experts = torch.nn.Parameter(torch.zeros(4, 32, 64))
    with pytest.raises(
        ValidationError, match=r"cannot count the cost of block 2 .*mlp\.experts of shape \(4, 32, 64\)"
    ):
        discover(model)


MORE_SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.mark.parametrize(
    ("model_type", "sizes"),
    [
        ("mixtral", MORE_SIZES | {"num_local_experts": 4}),
        ("olmoe", MORE_SIZES | {"num_experts": 4, "num_experts_per_tok": 2}),
        ("mamba", {"hidden_size": 32, "state_size": 8}),
    ],
)
def test_architectures_whose_cost_is_not_counted_yet_are_refused(model_type, sizes, make_toy):
    """A mixture of experts or a state-space model scored as if every block cost what its linear maps cost."""
    with pytest.raises(ValidationError, match="cannot count the cost of block 1"):
        discover(make_toy(model_type, num_blocks=2, **sizes))


def test_watching_leaves_nothing_behind():
    """Hooks that stay on the model, or a refusal that forgets to take them off."""
    model = toy_model()
    discover(model)
    model.config.num_hidden_layers = 3
    with pytest.raises(ValidationError):
        discover(model)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
