"""Architectures of every sort, on tiny random weights, and variants that trip naive readouts.

All model types go through `test_matrix`; adding one to `FAMILIES` puts it through all of these too.
"""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from exitbench.models.adapter import ModelAdapter
from exitbench.models.anatomy import model_shape
from exitbench.models.discover import probe_ids
from exitbench.models.toy import toy_model
from exitbench.models.validate import require_valid, validate
from families import FAMILIES

# Names after the family's own, then what changes in its config.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2, untied head": ("gpt2", {"tie_word_embeddings": False}),
    "opt, post-norm": ("opt", {"do_layer_norm_before": False, "word_embed_proj_dim": 32}),
    "llama, attention and MLP bias": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "gpt_neox, sequential residual": ("gpt_neox", {"use_parallel_residual": False}),
    "gemma3_text, no soft-cap": ("gemma3_text", {"final_logit_softcapping": None}),
    "llama, one block": ("llama", {"num_blocks": 1}),
    "gpt2, one block": ("gpt2", {"num_blocks": 1}),
    "opt, one block": ("opt", {"num_blocks": 1}),
    "llama, eager attention": ("llama", {"attn_implementation": "eager"}),
    "bloom, residual after the norm": ("bloom", {"apply_residual_connection_post_layernorm": True}),
    "cohere, logit scale, parallel blocks": ("cohere", {"logit_scale": 0.25}),
    "granite, multipliers of everything": (
        "granite",
        {"logits_scaling": 4.0, "residual_multiplier": 0.3, "embedding_multiplier": 7.0, "attention_multiplier": 0.2},
    ),
    "olmo2, norms behind": ("olmo2", {}),
    "phi, bias of the head": ("phi", {}),
    "rwkv, rescaled hidden state": ("rwkv", {"num_blocks": 5, "rescale_every": 2}),
    "gemma2, soft-cap": ("gemma2", {"final_logit_softcapping": 3.0}),
    "openai-gpt, outputs in a list": ("openai-gpt", {}),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A validated model, a sequence, its captured hidden states and the model's own logits."""

    adapter: ModelAdapter
    ids: torch.Tensor
    hidden: torch.Tensor
    """(L + 1, T, D)"""
    logits: torch.Tensor
    """(T, V)"""


def _case(model: Any) -> Case:
    adapter, ids = ModelAdapter(model), probe_ids(model)
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False).logits[0]
    return Case(adapter=adapter, ids=ids, hidden=adapter.capture(ids), logits=logits)


@pytest.fixture(scope="module", params=[*FAMILIES, *VARIANTS])
def case(request, make_toy):
    """Each family and variant, in float32, with norm weights that are not 1: a norm applied twice must show."""
    if request.param in VARIANTS:
        family, changes = VARIANTS[request.param]
        return _case(make_toy(family, **changes))
    return _case(make_toy(request.param, num_blocks=None))


@pytest.fixture(scope="module", params=FAMILIES)
def bfloat16_case(request):
    """Each family in bfloat16."""
    return _case(toy_model(request.param, num_blocks=None, dtype=torch.bfloat16))


def _check_contract(case: Case) -> None:
    adapter = case.adapter
    checks = validate(adapter)
    assert [check.name for check in checks] == ["readout", "chain", "cache", "padding"]
    require_valid(adapter, checks)
    # The reference readout is the model's own code, so at depth L there is nothing to round differently.
    assert torch.equal(adapter.readout(case.hidden[-1]), case.logits)
    assert adapter.readout(case.hidden[0]).dtype == case.logits.dtype
    assert case.hidden.shape == (adapter.num_blocks + 1, case.ids.shape[1], adapter.hidden_size)


def test_proof_and_readout_at_the_last_depth(case):
    """A final norm applied twice or forgotten, a soft-cap or projection left out, depths off by one."""
    _check_contract(case)


def test_proof_and_readout_at_the_last_depth_in_bfloat16(bfloat16_case):
    """A readout that computes in another precision than the model, so that comparisons see other roundings."""
    _check_contract(bfloat16_case)


def test_depth_zero_is_the_input_of_the_first_block(case):
    """A depth axis that starts at the output of block 1, or at embeddings before scale and positions."""
    entering = []
    adapter = case.adapter
    port, layout = adapter.paths.ports[0], adapter.paths.layout
    hook = adapter.blocks[0].register_forward_pre_hook(
        lambda _, args, kwargs: entering.append(layout.to_rows(port.taken(args, kwargs))[0].clone()), with_kwargs=True
    )
    with torch.inference_mode():
        adapter.model(input_ids=case.ids, use_cache=False)
    hook.remove()
    assert torch.equal(case.hidden[0], entering[0])


def test_captured_rows_are_a_slice_of_all(case):
    """Rows of another position than asked for: every signal would be off by one token."""
    for rows in (slice(3, 9), slice(0, 1), slice(case.ids.shape[1] - 1, None)):
        assert torch.equal(case.adapter.capture(case.ids, rows), case.hidden[:, rows])


def _check_rows_are_independent(case: Case) -> None:
    hidden = case.hidden[case.hidden.shape[0] // 2]
    together = case.adapter.readout(hidden).double()
    apart = torch.cat([case.adapter.readout(row[None]) for row in hidden]).double()
    # Products of other shapes may sum in another order: a few roundings of the largest term.
    unit = torch.finfo(case.logits.dtype).eps
    assert (together - apart).abs().max() <= 8 * unit * together.abs().max()


def test_readout_of_many_rows_equals_row_by_row(case):
    """A readout in which rows see each other: attention or positions left in what runs after the blocks."""
    _check_rows_are_independent(case)


def test_readout_of_many_rows_equals_row_by_row_in_bfloat16(bfloat16_case):
    """Batches that change a row by more than one rounding to bfloat16."""
    _check_rows_are_independent(bfloat16_case)


def test_readout_takes_more_rows_than_the_model_knows_positions(make_toy):
    """Rows laid out along the sequence: GPT-2 and OPT would run out of position embeddings."""
    for family, name in (("gpt2", "n_positions"), ("opt", "max_position_embeddings")):
        adapter = ModelAdapter(make_toy(family, **{name: 32}))
        hidden = adapter.capture(probe_ids(adapter.model))[1]
        many = hidden.repeat(4, 1)
        assert torch.allclose(adapter.readout(many)[:24], adapter.readout(hidden), rtol=1e-5, atol=1e-5)


def test_model_is_left_as_it_was(case):
    """Hooks or replaced forwards that stay behind and change every later pass."""
    model = case.adapter.model
    with torch.inference_mode():
        after = model(input_ids=case.ids, use_cache=False).logits[0]
    assert torch.equal(after, case.logits)
    assert not any(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in model.modules())


def test_parameters_are_each_counted_once(case):
    """A part left out or counted twice: blocks, embedding, norms and head do not add up to the model."""
    shape, model = model_shape(case.adapter), case.adapter.model
    assert shape.parameters.total == shape.num_parameters == sum(p.numel() for p in model.parameters())
    assert shape.parameters.blocks == sum(p.numel() for p in {p for b in case.adapter.blocks for p in b.parameters()})
    assert shape.parameters.idle == 0
    assert shape.vocab_size == 259
    assert sum(shape.block_costs) == pytest.approx(1, abs=1e-12)
    for block in shape.blocks:
        assert block.product_weights > 0
        assert 0 < block.active_parameters <= block.parameters
        assert block.weight_bytes == 4 * block.active_parameters
