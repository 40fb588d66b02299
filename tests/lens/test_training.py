"""Training: it learns, by the right gradient, and an interruption leaves no trace."""

import json
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from exitbench.errors import LensError
from exitbench.lens import make_plan, read_translators, train, training
from exitbench.lens.tensors import read_tensors
from exitbench.lens.training import partial_path
from exitbench.models.adapter import ModelAdapter
from exitbench.models.toy import toy_model
from exitbench.progress import SILENT, Progressor
from exitbench.trace.prompts import cut_into_documents
from families import FAMILIES


class Stopped(KeyboardInterrupt):
    pass


class StopsAfter(Progressor):
    """Somebody who interrupts the training after so many steps of this run."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    @contextmanager
    def bar(self, description, total):
        seen = []

        def advance(steps):
            seen.append(steps)
            if len(seen) > self.left:  # the first call says what was there
                raise Stopped

        yield advance


@pytest.fixture(scope="module")
def documents(loaded, text):
    return cut_into_documents(loaded.tokenizer, text, 64)[1]


@pytest.fixture
def job(loaded, documents, origin, tmp_path, monkeypatch):
    """Train a lens in 6 steps, the state saved every second one; changes are of the origin."""
    monkeypatch.setattr(training, "_STEPS_BETWEEN_SAVES", 2)
    plan = make_plan([len(document) for document in documents], tokens=6 * 256, seed=0)

    def run(name="lens", progress=SILENT, **changes):
        out = tmp_path / f"{name}.safetensors"
        made = origin(loaded, **{"tokens": plan.tokens, "steps": len(plan.steps), "learning_rate": 0.01, **changes})
        train(loaded, documents, plan, made, out, progress=progress)
        return out

    return run


@pytest.mark.parametrize("stops", [(1,), (2,), (5,), (3, 1, 2)])
def test_interrupted_and_resumed_are_the_same_bits(job, tmp_path, stops):
    """Moments, a step's number or an order lost in between; a state left behind when all is done."""
    whole = job("whole")
    out = tmp_path / "parts.safetensors"
    for steps in stops:
        with pytest.raises(Stopped):
            job("parts", StopsAfter(steps))
        assert not out.exists()
    assert partial_path(out).exists() == (stops != (1,))
    job("parts")
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["parts.safetensors", "whole.safetensors"]


def test_state_of_another_training_is_refused(job, tmp_path):
    """Weights begun at one learning rate and ended at another, under the name of the latter."""
    with pytest.raises(Stopped):
        job(progress=StopsAfter(2))
    before = partial_path(tmp_path / "lens.safetensors").read_bytes()
    with pytest.raises(LensError, match=r"lens\.partial\.safetensors is of another training: seed is 0 there, 1 now; "):
        job(seed=1)
    assert partial_path(tmp_path / "lens.safetensors").read_bytes() == before
    assert not (tmp_path / "lens.safetensors").exists()


def test_training_that_leaves_the_numbers_is_said(job, tmp_path, monkeypatch):
    """A file of numbers that are none."""
    monkeypatch.setattr(training, "_gradient", lambda logits, final: torch.full_like(logits, torch.nan))
    with pytest.raises(LensError, match="lower --learning-rate"):
        job()
    assert not (tmp_path / "lens.safetensors").exists()


def test_it_learns(job, loaded, documents):
    """A gradient of the wrong sign, a depth that is never trained, or one trained on another's states."""
    translators = read_translators(job())
    plan = make_plan([len(document) for document in documents], tokens=1, seed=0)
    assert (translators.weights.abs().amax((1, 2)) > 0).all()
    hidden = torch.cat([loaded.adapter.capture(torch.tensor([documents[i]])) for i in plan.held_out], dim=1)
    before, after = (divergence(loaded.adapter, states) for states in (hidden, translators(hidden)))
    assert (after[:-1] < before[:-1]).all(), (before, after)


def divergence(adapter, hidden_LRD):
    """(L + 1,) mean KL from the final distribution."""
    logprob = torch.stack([adapter.readout(states) for states in hidden_LRD]).double().log_softmax(-1)
    return (logprob[-1].exp() * (logprob[-1] - logprob)).sum(-1).mean(-1)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_is_that_of_the_divergence(family):
    """A scale or soft-cap after the head that the gradient does not pass, or a distribution of the wrong side."""
    adapter = ModelAdapter(toy_model(family))
    generator = torch.Generator().manual_seed(0)
    hidden, final = torch.randn(2, 5, adapter.hidden_size, generator=generator)
    weight = (0.1 * torch.randn(adapter.hidden_size, adapter.hidden_size, generator=generator)).requires_grad_()
    bias = torch.zeros(adapter.hidden_size, requires_grad=True)
    final_TV = adapter.readout(final).clone().softmax(-1)

    def loss(weight, bias):
        logprob = adapter.readout(training.translate(hidden, weight, bias), gradients=True).log_softmax(-1)
        return (final_TV * (final_TV.log() - logprob)).sum()

    want = torch.autograd.grad(loss(weight, bias), (weight, bias))
    logits_TV = adapter.readout(training.translate(hidden, weight, bias), gradients=True)
    got = torch.autograd.grad(logits_TV, (weight, bias), training._gradient(logits_TV.detach(), final_TV))
    for ours, exact in zip(got, want, strict=True):
        assert exact.abs().amax() > 0
        assert torch.allclose(ours, exact, rtol=1e-3, atol=1e-5 * float(exact.abs().amax()))


def test_a_chunk_of_rows_does_not_matter(job, monkeypatch):
    """Rows lost or counted twice at the border of a chunk."""
    whole = read_translators(job("whole"))
    monkeypatch.setattr(training, "_MEMORY", training._BYTES_OF_LOGIT * 259 * 100)
    parts = read_translators(job("parts"))
    assert not torch.equal(whole.weights, parts.weights)
    assert np.allclose(whole.weights, parts.weights, atol=1e-3)


def test_state_says_what_it_is_of(job, tmp_path):
    """A state from which nobody could tell which training to go on with."""
    with pytest.raises(Stopped):
        job(progress=StopsAfter(2))
    tensors, record = read_tensors(partial_path(tmp_path / "lens.safetensors"))
    assert int(tensors["num_steps"]) == 2
    assert json.dumps(record)
    assert record["model"] == "toy"
