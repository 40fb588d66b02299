"""Hidden states of a toy model, from its forward pass to the record."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from exitbench.errors import ModelError, TraceError
from exitbench.models.load import prove
from exitbench.models.toy import toy_model
from exitbench.representation import Representation
from exitbench.representation import measure as measure_module
from exitbench.representation.measure import represent

PLAIN = ("cosine_previous", "block_influence", "residual_norm", "norm_growth", "anisotropy", "effective_rank")


def _hidden(model, stretch):
    """(L + 1, R, D) by transformers' own record of hidden states; its last entry is normed and left out."""
    ids = torch.tensor([stretch.ids])
    states = model(input_ids=ids, output_hidden_states=True).hidden_states[:-1]
    return torch.stack(states)[:, 0, stretch.first_row : -1].double().numpy()


def test_figures_are_those_of_the_counted_tokens(proved, make_stretches):
    """Tokens of the prompt, or the last one, which predicts nothing, among those averaged over."""
    stretches = make_stretches([9, 14, 6], turns=2, first_row=4)
    record = represent(proved, stretches)
    assert (record.n_tokens, record.n_prompts, record.n_sequences) == (58, 3, 6)
    by_sequence = [_hidden(proved.model, stretch) for stretch in stretches]
    tokens = np.concatenate(by_sequence, axis=1)
    norms = np.linalg.norm(tokens, axis=-1)
    units = tokens / norms[..., None]
    cosines = (units[1:] * units[:-1]).sum(-1).mean(-1)
    assert record.residual_norm.value[:3] == pytest.approx(norms.mean(1), rel=1e-5)
    assert record.cosine_previous.value[:2] == pytest.approx(cosines, abs=1e-6)
    assert record.block_influence.value[:2] == pytest.approx(1 - cosines, abs=1e-6)
    assert record.norm_growth.value[:2] == pytest.approx(norms[1:].mean(1) / norms[:-1].mean(1), rel=1e-5)
    last = np.stack([hidden[:, -1] / np.linalg.norm(hidden[:, -1], axis=-1)[:, None] for hidden in by_sequence])
    angle = np.mean(np.arccos((last[:, 0] * last[:, 2]).sum(-1))) / np.pi
    distances = record.angular_distance
    pairs = dict(zip(zip(distances.depth, distances.other_depth, strict=True), distances.value, strict=True))
    assert pairs[0, 2] == pytest.approx(angle, abs=1e-5)
    assert len(pairs) == 6


def test_axes(proved, make_stretches):
    """A figure of two neighbouring depths put at the earlier one: depth d is after d blocks."""
    record = represent(proved, make_stretches([8] * 4))
    for name in PLAIN:
        compared = name in ("cosine_previous", "block_influence", "norm_growth")
        assert getattr(record, name).at == list(range(1 if compared else 0, 4)), name
    assert all(d < e for d, e in zip(record.cka.depth, record.cka.other_depth, strict=True))


def test_identity_blocks(make_stretches):
    """Blocks that return their input: no influence, no angle, the same space, nothing grown."""
    model = toy_model(num_blocks=3)
    for layer in model.model.layers[1:]:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    record = represent(prove("identity", model), make_stretches([12] * 4))
    assert record.block_influence.value[1:] == pytest.approx([0, 0], abs=1e-12)
    assert record.norm_growth.value[1:] == pytest.approx([1, 1])
    assert record.block_influence.value[0] > 0.01
    for name, same in (("angular_distance", 0), ("cka", 1)):
        pairs = getattr(record, name)
        behind = [v for d, v in zip(pairs.depth, pairs.value, strict=True) if d >= 1]
        assert behind == pytest.approx([same] * 3, abs=1e-7), name
    assert record.effective_rank.value[1] == pytest.approx(record.effective_rank.value[3])


def test_means_do_not_depend_on_the_order_of_documents(proved, make_stretches):
    """Sums that mix up documents when those of one minibatch are passed first."""
    stretches = make_stretches([5, 9, 7, 11, 8, 6, 7, 9, 10, 5, 6, 12])
    one, other = represent(proved, stretches), represent(proved, stretches[::-1], seed=3)
    assert other.n_minibatches == 2
    for name in ("cosine_previous", "residual_norm", "norm_growth", "anisotropy"):
        assert getattr(other, name).value == pytest.approx(getattr(one, name).value, abs=1e-9), name
    assert other.angular_distance.value == pytest.approx(one.angular_distance.value, abs=1e-7)


def test_one_minibatch_of_everything_is_plain_cka(proved, make_stretches):
    """Tokens drawn twice, or of one document alone, or left out of the effective rank."""
    stretches = make_stretches([9, 14, 6])
    record = represent(proved, stretches)
    assert (record.n_minibatches, record.minibatch_tokens, record.n_rank_tokens) == (1, 29, 29)
    tokens = np.concatenate([_hidden(proved.model, stretch) for stretch in stretches], axis=1)
    product = measure_module.unbiased_products(list(tokens))
    expected = product[0, 2] / np.sqrt(product[0, 0] * product[2, 2])
    assert record.cka.value[1] == pytest.approx(expected, abs=1e-6)
    assert (record.cka.depth[1], record.cka.other_depth[1]) == (0, 2)
    assert record.effective_rank.value[:3] == pytest.approx(
        [measure_module.effective_rank(hidden) for hidden in tokens], rel=1e-4
    )


def test_drawn_tokens_are_as_many_as_said(proved, make_stretches, monkeypatch):
    """Minibatches of unequal size, overlapping ones, or more tokens held than the bound."""
    monkeypatch.setattr(measure_module, "MINIBATCH_TOKENS", 10)
    monkeypatch.setattr(measure_module, "RANK_TOKENS", 20)
    seen = []
    products = measure_module.unbiased_products
    monkeypatch.setattr(
        measure_module, "unbiased_products", lambda by_depth: seen.append(list(by_depth)) or products(seen[-1])
    )
    record = represent(proved, make_stretches([4, 9] * 9))
    assert (record.n_minibatches, record.minibatch_tokens, record.n_rank_tokens) == (3, 10, 20)
    assert [len(by_depth[0]) for by_depth in seen] == [10, 10, 10]
    deepest = np.concatenate([by_depth[-1] for by_depth in seen])
    assert len(np.unique(deepest, axis=0)) == 30
    assert max(record.effective_rank.value) <= 19


def test_same_seed_same_record(proved, make_stretches):
    """Draws from a generator that somebody else has used."""
    stretches = make_stretches([4] * 12)
    assert represent(proved, stretches, seed=5) == represent(proved, stretches, seed=5)
    other = represent(proved, stretches, seed=6)
    assert other.cosine_previous.value == pytest.approx(represent(proved, stretches, seed=5).cosine_previous.value)
    assert other.cosine_previous.low != represent(proved, stretches, seed=5).cosine_previous.low


def test_intervals_and_their_absence(proved, make_stretches):
    """An interval of few documents or minibatches, or none without a word."""
    few = represent(proved, make_stretches([4] * 3))
    assert few.no_interval.keys() == {*PLAIN, "angular_distance", "cka"}
    assert few.cosine_previous.low == [None] * 3
    many = represent(proved, make_stretches([3] * 60))
    assert many.no_interval.keys() == {"effective_rank"}
    assert many.n_minibatches == 10
    for name in (*PLAIN, "angular_distance", "cka"):
        figure = getattr(many, name)
        has = [low is not None and high is not None for low, high in zip(figure.low, figure.high, strict=True)]
        assert has == [name != "effective_rank"] * len(has), name
        if name != "effective_rank":
            assert all(low <= high for low, high in zip(figure.low, figure.high, strict=True)), name


def test_what_cannot_be_has_a_reason(proved, make_stretches):
    """A similarity of one document with itself, and of fewer tokens than the estimator takes."""
    record = represent(proved, make_stretches([3]))
    assert record.anisotropy is None
    assert record.cka is None
    assert record.reasons == {
        "anisotropy": "needs tokens of at least two documents",
        "cka": "needs minibatches of at least 4 tokens, got 3",
    }
    assert Representation.model_validate(record.model_dump(mode="json")) == record


def test_no_token_and_no_number(proved, make_stretches):
    """A mean over nothing, and infinity passed on as a measurement."""
    (stretch,) = make_stretches([5])
    with pytest.raises(TraceError, match="no token"):
        represent(proved, [replace(stretch, first_row=5)])
    broken = prove("broken", toy_model(num_blocks=2))
    broken.model.model.layers[1].mlp.down_proj.weight.fill_(float("inf"))
    with pytest.raises(ModelError, match="not finite at depth 2 of sample 0, turn 1"):
        represent(broken, [stretch])


def test_half_precision_is_summed_in_double(make_stretches):
    """Sums in the model's own dtype, in which a long mean is lost."""
    half = prove("half", toy_model(num_blocks=2, dtype=torch.bfloat16))
    stretches = make_stretches([40] * 3)
    captured = [half.adapter.capture(torch.tensor([stretch.ids]), slice(-1)) for stretch in stretches]
    norms = np.linalg.norm(torch.cat(captured, dim=1).double().numpy(), axis=-1)
    assert represent(half, stretches).residual_norm.value == pytest.approx(norms.mean(axis=1), rel=1e-12)
