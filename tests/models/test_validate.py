"""Proof that the proof can fail: every known way of seeing a model wrongly is caught, by the check meant for it."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from exitbench.errors import ValidationError
from exitbench.models.adapter import ModelAdapter
from exitbench.models.toy import toy_model
from exitbench.models.validate import Check, _RoundingNoise, require_valid, validate


class _NormedTwice(ModelAdapter):
    def readout(self, hidden_RD):
        return super().readout(self.model.model.norm(hidden_RD))


class _NotNormed(ModelAdapter):
    def readout(self, hidden_RD):
        return self.model.lm_head(hidden_RD)


class _UncappedHead(ModelAdapter):
    def readout(self, hidden_RD):
        return self.model.lm_head(self.model.model.norm(hidden_RD))


class _LastStateNormed(ModelAdapter):
    """What transformers' own `hidden_states` would give."""

    def capture(self, input_ids, rows=slice(None)):
        hidden = super().capture(input_ids, rows)
        hidden[-1] = self.model.model.norm(hidden[-1])
        return hidden


class _OneBlockEarly(ModelAdapter):
    def capture(self, input_ids, rows=slice(None)):
        hidden = super().capture(input_ids, rows)
        return torch.cat([hidden[:1], hidden[:-1]])


class _LastBlockMissing(ModelAdapter):
    def __init__(self, model):
        super().__init__(model)
        paths = self.paths
        cut = {name: getattr(paths, name)[:-1] for name in ("blocks", "ports", "scales")}
        super().__init__(model, replace(paths, **cut))


class _BlocksSwapped(ModelAdapter):
    def __init__(self, model):
        super().__init__(model)
        self.blocks[0], self.blocks[1] = self.blocks[1], self.blocks[0]


@pytest.mark.parametrize(
    ("view", "family", "caught_by"),
    [
        (_NormedTwice, "llama", "readout"),
        (_NormedTwice, "gemma3_text", "readout"),
        (_NotNormed, "llama", "readout"),
        (_NotNormed, "gpt2", "readout"),
        (_UncappedHead, "gemma3_text", "readout"),
        (_LastStateNormed, "llama", "readout"),
        (_LastStateNormed, "gemma3_text", "readout"),
        (_OneBlockEarly, "llama", "readout"),
        (_OneBlockEarly, "opt", "readout"),
        (_LastBlockMissing, "gpt2", "readout"),
        (_LastBlockMissing, "gpt_neox", "readout"),
        (_BlocksSwapped, "llama", "chain"),
        (_BlocksSwapped, "gpt_neox", "chain"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_wrong_view_is_refused(view: Callable[..., ModelAdapter], family, caught_by, dtype, make_toy):
    """A proof that passes a view of the model that two published tools have had, or an off-by-one."""
    adapter = view(make_toy(family, dtype=dtype))
    checks = validate(adapter)
    failed = [check for check in checks if check.required and not check.passed]
    assert [check.name for check in failed] == [caught_by], checks
    with pytest.raises(ValidationError, match=failed[0].claim) as refusal:
        require_valid(adapter, checks)
    assert type(adapter.model).__name__ in str(refusal.value)
    assert "\n" not in str(refusal.value)


def _positions_stuck(forward):
    """With a cache, every new token believes that it is the first one."""

    def broken(*args, **kwargs):
        if kwargs.get("past_key_values") is not None:
            kwargs["position_ids"] = torch.zeros_like(kwargs["input_ids"])
        return forward(*args, **kwargs)

    return broken


def _cache_forgotten(forward):
    """With a cache, the past is thrown away."""

    def broken(*args, **kwargs):
        if kwargs.pop("past_key_values", None) is not None:
            kwargs.pop("attention_mask", None)
        return forward(*args, **kwargs)

    return broken


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text"])
@pytest.mark.parametrize("broken", [_positions_stuck, _cache_forgotten])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_broken_cache_is_refused(broken, family, dtype, monkeypatch):
    """Answers generated with a cache that is not the model: tokens that the parallel pass would never give."""
    adapter = ModelAdapter(toy_model(family, dtype=dtype))
    monkeypatch.setattr(adapter.model, "forward", broken(adapter.model.forward))
    checks = validate(adapter)
    assert [check.name for check in checks if check.required and not check.passed] == ["cache"], checks
    with pytest.raises(ValidationError, match="token by token with the cache"):
        require_valid(adapter, checks)


def test_block_that_remembers_is_refused():
    """A block whose output depends on what ran before: running the blocks one by one is then another model."""
    model = toy_model()
    calls = []

    def drift(_, __, output):
        calls.append(0)
        return output + 0.01 * len(calls)

    adapter = ModelAdapter(model)
    model.model.layers[1].register_forward_hook(drift)
    assert "chain" in [check.name for check in validate(adapter) if not check.passed]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_prove_nothing(value):
    """A broken head passed because its rounding error is as unknown as its error."""
    model = toy_model("gpt_neox")
    model.lm_head.weight[7] = value
    adapter = ModelAdapter(model)
    checks = {check.name: check for check in validate(adapter)}
    assert not checks["readout"].passed
    assert checks["chain"].passed
    with pytest.raises(ValidationError, match="readout"):
        require_valid(adapter, list(checks.values()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2", "gpt_neox", "opt"])
def test_right_models_keep_a_distance_to_the_tolerance(family, dtype):
    """A tolerance so tight that a sound model is refused for its rounding, by luck of its weights."""
    for seed in range(3):
        for check in validate(ModelAdapter(toy_model(family, seed=seed, dtype=dtype))):
            assert check.error <= 0.7 * check.tolerance, (seed, check)


def test_float64_is_not_asked_for_more_than_its_norms_give(make_toy):
    """Norms that compute in float32 in a float64 model: an honest model refused."""
    adapter = ModelAdapter(make_toy("llama", dtype=torch.float64))
    require_valid(adapter, validate(adapter))


def test_a_check_passes_up_to_its_tolerance():
    """A comparison the wrong way round."""
    check = Check(name="readout", claim="", error=1.0, tolerance=1.0)
    assert check.passed
    assert not Check(name="readout", claim="", error=1.01, tolerance=1.0).passed
    assert not Check(name="readout", claim="", error=float("inf"), tolerance=float("inf")).passed


def test_overflow_is_reported_with_its_depth():
    """Half precision that overflows in a deep block, refused with a difference of nan or scored to the block before."""
    model = toy_model("llama", dtype=torch.float16)
    model.model.layers[2].mlp.down_proj.weight.fill_(60000.0)
    with pytest.raises(ValidationError, match="in float16 is not finite at depth 3 of 4; try --dtype bfloat16"):
        validate(ModelAdapter(model))


def test_padding_that_changes_answers_does_not_refuse():
    """A recurrent model without masks refused, or its prompts padded into batches all the same."""
    adapter = ModelAdapter(toy_model("rwkv"))
    checks = validate(adapter)
    assert [check.name for check in checks if not check.passed] == ["padding"]
    require_valid(adapter, checks)


def test_noise_leaves_what_is_only_moved_alone():
    """Offloaded weights given rounding noise, and memory for it, each time they are brought in and cast."""
    noise, weight = _RoundingNoise(), torch.randn(5, 5)
    with noise:
        noise.on = True
        moved, copied, computed = weight.to(torch.float64), torch.empty(5, 5).copy_(weight), weight * 1.5
    assert torch.equal(moved, weight.double())
    assert torch.equal(copied, weight)
    assert not torch.equal(computed, weight * 1.5)
    assert torch.allclose(computed, weight * 1.5, rtol=1e-6)
