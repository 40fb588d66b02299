"""Translators: untrained they change nothing, and they belong to one model."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from exitbench.config import TraceOptions
from exitbench.errors import LensError, TraceError
from exitbench.lens import Translators, read_translators, translators_for
from exitbench.lens.tensors import read_tensors, write_tensors
from exitbench.trace.collect import collect
from exitbench.trace.store import read_trace

OPTIONS = TraceOptions(document_tokens=64, limit=4)


def hidden_of(loaded, num_tokens=40):
    ids = torch.arange(3, 3 + num_tokens)[None]
    return loaded.adapter.capture(ids)


def saved(translators, folder):
    path = folder / "lens.safetensors"
    translators.save(path)
    return path, f"tuned:{path}"


def test_against_the_formula(loaded, drawn):
    """A transposed A, a bias of another depth, or a residual left out; depth L translated."""
    translators, hidden = drawn(loaded), hidden_of(loaded)
    translated = translators(hidden)
    for depth, states in enumerate(hidden[:-1].double().numpy()):
        weight, bias = translators.weights[depth].double().numpy(), translators.biases[depth].double().numpy()
        want = np.array([h + weight @ h + bias for h in states])
        assert np.allclose(translated[depth].numpy(), want, rtol=1e-4, atol=1e-4)
    assert torch.equal(translated[-1], hidden[-1])
    assert translated.dtype == hidden.dtype


@given(start=st.integers(0, 39), rows=st.integers(1, 40))
def test_a_row_does_not_depend_on_the_others(loaded, drawn, start, rows):
    """Another rounding where less memory cuts a stretch in more parts: a trace that cannot be made again."""
    translators, hidden = drawn(loaded), hidden_of(loaded)
    some = slice(start, start + rows)
    assert torch.equal(translators(hidden[:, some]), translators(hidden)[:, some])


@pytest.mark.parametrize("fast", [False, True])
def test_untrained_is_the_logit_lens(tmp_path, loaded, text, drawn, fast):
    """A lens that changes rounding where it changes nothing else."""
    _, readout = saved(drawn(loaded, scale=0), tmp_path)
    for name, how in (("plain", "logit"), ("tuned", readout)):
        collect(loaded, text, tmp_path / name, options=replace(OPTIONS, readout=how, fast=fast))
    plain, tuned = (read_trace(tmp_path / name) for name in ("plain", "tuned"))
    assert np.array_equal(plain.decision_depth, tuned.decision_depth)
    assert plain.signals.keys() == tuned.signals.keys()
    for name, values in plain.signals.items():
        assert values.tobytes() == tuned.signals[name].tobytes(), name


def test_traces_know_their_lens(tmp_path, loaded, text, drawn):
    """A trace by one lens gone on with another, or mixed with the plain readout; fast and full that disagree."""
    translators = drawn(loaded)
    _, readout = saved(translators, tmp_path)
    options = replace(OPTIONS, readout=readout)
    collect(loaded, text, tmp_path / "full", options=options)
    collect(loaded, text, tmp_path / "fast", options=replace(options, fast=True))
    collect(loaded, text, tmp_path / "plain", options=OPTIONS)
    full, fast, plain = (read_trace(tmp_path / name) for name in ("full", "fast", "plain"))
    assert full.manifest.settings.readout == translators.name != plain.manifest.settings.readout == "logit"
    assert full.manifest.environment["lens"]["workload"] == "none"
    assert np.array_equal(full.decision_depth, fast.decision_depth)
    assert np.array_equal(full.final_id, plain.final_id)
    assert not np.array_equal(full.decision_depth, plain.decision_depth)
    assert full.signals["hidden_norm"].tobytes() == plain.signals["hidden_norm"].tobytes()
    assert not np.allclose(full.signals["entropy"][:, :-1], plain.signals["entropy"][:, :-1])
    assert full.signals["entropy"][:, -1].tobytes() == plain.signals["entropy"][:, -1].tobytes()
    with pytest.raises(TraceError, match=r"settings\.readout"):
        collect(loaded, text, tmp_path / "full", options=OPTIONS)


def test_saved_and_read_again(tmp_path, loaded, drawn):
    """A file that comes back as another lens, or under a name of its own."""
    translators = drawn(loaded)
    path, readout = saved(translators, tmp_path)
    again = read_translators(path)
    assert torch.equal(again.weights, translators.weights)
    assert torch.equal(again.biases, translators.biases)
    assert (again.name, again.origin) == (translators.name, translators.origin)
    assert drawn(loaded, scale=0.2).name != translators.name
    assert translators_for(loaded, "logit") is None
    assert translators_for(loaded, readout).name == translators.name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"weights_sha256": "e" * 64, "model": "another"},
            r"trained for another \(weights eeeeeeeeeeee\), the model is toy",
        ),
        (
            {"config_sha256": None},
            r"trained for toy \(configuration none\), the model is toy \(configuration [0-9a-f]{12}\)",
        ),
    ],
)
def test_other_model_is_refused(tmp_path, loaded, drawn, changes, words):
    """A lens put before weights that it knows nothing of."""
    _, readout = saved(drawn(loaded, **changes), tmp_path)
    with pytest.raises(LensError, match=words) as refusal:
        translators_for(loaded, readout)
    assert "exitbench lens" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: file.record.update(format_version=2), "format version 2"),
        (lambda file: file.record.pop("seed"), "no lens, or a damaged one"),
        (lambda file: file.record.update(num_blocks=5), "expected float32 of 5 x"),
        (lambda file: file.tensors.pop("biases"), "no lens, or a damaged one"),
        (lambda file: file.tensors["biases"].fill_(torch.nan), "not finite"),
    ],
)
def test_damaged_lens_is_refused(tmp_path, loaded, drawn, damage, words):
    """Tensors of other shapes, a lens of the future, or numbers that are none, found out as a traceback."""
    path, _ = saved(drawn(loaded), tmp_path)
    tensors, record = read_tensors(path)
    damage(SimpleNamespace(tensors=tensors, record=record))
    write_tensors(path, tensors, record)
    with pytest.raises(LensError, match=words):
        read_translators(path)


def test_applied_in_the_dtype_of_the_model(tmp_path, toy_folder, loaded, drawn):
    """Float32 products, several times slower, behind a model in bfloat16; a hidden state that changes its dtype."""
    from exitbench.models.load import load

    _, readout = saved(drawn(loaded), tmp_path)
    half = load(str(toy_folder), dtype="bfloat16")
    translators = translators_for(half, readout)
    assert isinstance(translators, Translators)
    assert translators.weights.dtype == torch.bfloat16
    assert translators(hidden_of(half)).dtype == torch.bfloat16
