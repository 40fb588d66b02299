"""Twins that have learnt nothing: seeded, proved, on the same tokens, or a reason why there are none."""

import numpy as np
import pytest
import torch
from scipy.stats import t as student

from exitbench.errors import TraceError
from exitbench.models.load import prove
from exitbench.models.toy import toy_model
from exitbench.study import untrained as untrained_module
from exitbench.study.untrained import Untrained, untrained_null
from exitbench.trace.record import Stretch


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def stretches():
    """Four sequences of 30 tokens, of which 24 count, of three prompts."""
    rng = np.random.default_rng(0)
    return [
        Stretch(ids=rng.integers(3, 259, 30).tolist(), first_row=5, turn=turn, sample=sample, category="a")
        for sample, turn in ((0, 0), (0, 1), (1, 0), (2, 0))
    ]


@pytest.fixture(scope="module")
def proved(make_toy):
    """A toy whose weights are far from any initialisation."""
    return prove("toy", make_toy("llama", num_blocks=4))


def _naive_ees(model, stretches):
    """By transformers' own record of hidden states, and the definition, with blocks of one size."""
    num_blocks, saved = len(model.model.layers), []
    for stretch in stretches:
        ids = torch.tensor([stretch.ids])
        *before, final = model(input_ids=ids, output_hidden_states=True).hidden_states
        logits = [model.lm_head(model.model.norm(hidden)) for hidden in before] + [model.lm_head(final)]
        top = torch.stack(logits)[:, 0, stretch.first_row : -1].argmax(-1)
        agrees = (top == top[-1]).flip(0).int().cumprod(0).sum(0)  # depths at the end that agree
        saved += ((agrees - 1) / num_blocks).tolist()
    return np.mean(saved)


def test_twins_are_what_their_seeds_say(proved, stretches):
    """Twins of another config or dtype, other tokens, or the trained model's own weights left in place."""
    null = untrained_null(proved, stretches, num_twins=3)
    assert (null.seeds, null.n_tokens, null.n_prompts) == ([0, 1, 2], 96, 3)
    for seed, ees in zip(null.seeds, null.ees, strict=True):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            twin = type(proved.model)(proved.model.config).eval()
        with torch.inference_mode():
            assert ees == pytest.approx(_naive_ees(twin, stretches))
    assert null.mean == pytest.approx(np.mean(null.ees))
    assert (null.smallest, null.largest) == (min(null.ees), max(null.ees))
    assert null.smallest < null.largest


def test_same_seed_same_numbers(proved, stretches):
    """Twins that depend on what was drawn before, or that change what is drawn after them."""
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    one = untrained_null(proved, stretches, num_twins=2, seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(5)
    assert untrained_null(proved, stretches, num_twins=2, seed=3) == one
    assert one.seeds == [6, 7]
    assert Untrained.model_validate(one.model_dump(mode="json")) == one


def test_a_held_out_seed_lies_within_the_spread(proved, stretches):
    """A spread that says nothing of further twins: Student's prediction interval of five, see tests/laws."""
    ees = np.array(untrained_null(proved, stretches, num_twins=6).ees)
    five, held_out = ees[:5], ees[5]
    reach = student.ppf(0.975, 4) * five.std(ddof=1) * np.sqrt(1 + 1 / 5)
    assert abs(held_out - five.mean()) <= reach


def test_twins_have_the_models_dtype(stretches, monkeypatch):
    """A null in float32 beside a model in bfloat16, whose roundings settle tokens earlier."""
    model = toy_model(num_blocks=2, dtype=torch.bfloat16)
    seen = []
    monkeypatch.setattr(untrained_module, "prove", lambda name, twin: seen.append(twin) or prove(name, twin))
    assert untrained_null(prove("half", model), stretches, num_twins=1).ees is not None
    (twin,) = seen
    assert (twin.dtype, twin.device, twin.training) == (torch.bfloat16, model.device, False)
    assert not any(torch.equal(a, b) for a, b in zip(twin.parameters(), model.parameters(), strict=True) if a.ndim > 1)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda model: setattr(model.config, "quantization_config", {"bits": 4}), "quantised"),
        (lambda model: setattr(model, "hf_device_map", {"a": "cpu", "b": "disk"}), "spread over cpu+disk"),
        (lambda model: setattr(model.config, "hidden_act", "none such"), "untrained twin 0 of toy cannot be made"),
    ],
)
def test_no_twins_for_a_reason(stretches, damage, reason):
    """A study that stops at such a model, or a null of 0."""
    proved = prove("toy", toy_model(num_blocks=2))
    damage(proved.model)
    null = untrained_null(proved, stretches)
    assert (null.ees, null.mean, null.smallest, null.largest) == (None,) * 4
    assert len(set(null.reasons.values())) == 1
    assert reason in null.reasons["ees"]


def test_nothing_to_count(proved, stretches):
    """A mean over no token."""
    with pytest.raises(TraceError, match="no token"):
        untrained_null(proved, [])
