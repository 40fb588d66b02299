"""The main job on real pretrained weights. Slow: the weights are fetched on first use."""

import numpy as np
import pytest
import torch

from definition import decisions
from exitbench import api
from exitbench.config import TraceOptions
from exitbench.signals import compute_signals
from exitbench.signals.lazy import LazyDecisions
from exitbench.trace.decided import remaining_costs
from exitbench.trace.decision import decision_depths
from exitbench.workloads import load_workload

pytestmark = pytest.mark.slow

TEXT = (
    "The solar system consists of the Sun and the objects that orbit it. There are eight planets: Mercury, Venus, "
    "Earth, Mars, Jupiter, Saturn, Uranus and Neptune. Water is made of hydrogen and oxygen. Plants make their food "
    "by photosynthesis, using light, water and carbon dioxide."
)


@pytest.fixture(scope="module", params=["smollm2-135m-instruct", "gemma3-270m"])
def loaded(request):
    return api.load(request.param)


def test_signals_and_ees_equal_a_naive_float32_computation(loaded):
    """A norm applied twice, a depth off by one, a wrong tie rule: any slip between weights and EES."""
    ids = torch.tensor(loaded.tokenizer(TEXT).input_ids)
    hidden = loaded.adapter.capture(ids[None], slice(0, len(ids) - 1))
    ours = compute_signals(hidden, ids[1:], loaded.readout)

    # The naive computation: transformers' own hidden states, norm and head, one depth after the other.
    with torch.inference_mode():
        model = loaded.model
        states = model(input_ids=ids[None], output_hidden_states=True, use_cache=False).hidden_states
        logits = torch.stack([model.lm_head(model.model.norm(h[0, :-1])) for h in states[:-1]])
        logits = torch.cat([logits, model.lm_head(states[-1][0, :-1])[None]])  # the last state is normed already
        logprob = logits.log_softmax(-1)
    top1 = logits.argmax(-1).T.numpy()
    best2 = logits.topk(2).values
    tied = ((best2[..., 0] - best2[..., 1]).T < 1e-3).numpy()

    assert np.array_equal(ours["top1_id"][~tied], top1[~tied]), np.argwhere((ours["top1_id"] != top1) & ~tied)[:5]
    np.testing.assert_allclose(ours["top1_prob"], logprob.exp().amax(-1).T, atol=1e-3)
    np.testing.assert_allclose(ours["entropy"], -(logprob.exp() * logprob).sum(-1).T, atol=1e-2)

    rho = remaining_costs(loaded.shape.block_costs)
    ees = []
    for ids_by_depth in (ours["top1_id"], top1):
        decided = [min(d for d in range(len(row)) if (row[d:] == row[-1]).all()) for row in ids_by_depth]
        ees.append(rho[decided].mean())
    assert round(ees[0], 4) == round(ees[1], 4)


@pytest.mark.parametrize(
    ("name", "dtype", "num_documents"),
    [
        ("smollm2-135m-instruct", "bfloat16", 8),
        ("smollm2-135m-instruct", "float32", 2),
        ("gemma3-270m", "bfloat16", 2),
    ],
)
def test_fast_paths_decide_as_the_definition_does(name, dtype, num_documents):
    """A near tie that a shortlist, a smaller product or compiled code decides otherwise; bfloat16 has many."""
    loaded = api.load(name, dtype=dtype)
    text = "\n\n".join(turn for sample in load_workload("mini").samples for turn in sample.turns)
    ids = torch.tensor(loaded.tokenizer(text, verbose=False).input_ids)
    lazy = LazyDecisions(loaded.readout)
    assert loaded.readout.picks_tokens
    for document in ids.split(250)[:num_documents]:
        hidden = loaded.adapter.capture(document[None])
        definition, decided = decisions(hidden, loaded.adapter.readout), lazy(hidden)
        top1_id = compute_signals(hidden, document, loaded.readout)["top1_id"]
        for depths in (decided.decision_depth, decision_depths(top1_id)):
            assert np.array_equal(depths, definition.decision_depth)
        for final_id in (decided.final_id, top1_id[:, -1]):
            assert np.array_equal(final_id, definition.final_id)


def test_main_job(loaded, tmp_path):
    """The spine broken anywhere between generation and page; a score far from what these models have."""
    options = TraceOptions(limit=12, max_new_tokens=8)
    run = api.run(loaded, "mini", out=tmp_path / "run", options=options)
    assert run.card.n_prompts == 12
    assert 0.02 < run.card.ees.value < 0.3
    assert run.card.generated_mismatch.value < 0.05
    assert run.card.ees.low < run.card.ees.value < run.card.ees.high
    page = run.report.read_text(encoding="utf-8")
    assert run.card.verdict.split(":")[0] in page


def test_text_mode_has_a_plausible_loss(loaded, tmp_path):
    """Weights or tokens mangled in conversion: a language model that has not learnt English."""
    text = tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    traced = api.trace(loaded, str(text), out=tmp_path / "trace")
    loss = -traced.signals["target_logprob"][:, -1].mean()
    assert traced.num_tokens > 50
    assert 1.0 < loss < 2.5
