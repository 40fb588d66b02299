"""Loading as every measurement does it: found, loaded, proved."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig

from exitbench.errors import ModelError, ValidationError
from exitbench.models import load as load_module
from exitbench.models.adapter import ModelAdapter
from exitbench.models.load import load
from exitbench.models.toy import save_toy, toy_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_toy(tmp_path_factory.mktemp("toy") / "llama")


def test_load_a_folder(folder):
    """Weights, tokenizer or sizes that are not the folder's."""
    loaded = load(str(folder))
    ids = torch.tensor([[5, 9, 200]])
    with torch.inference_mode():
        assert torch.equal(loaded.model(input_ids=ids).logits, toy_model()(input_ids=ids).logits)
    assert loaded.output_dtype == "float32"
    assert loaded.context_length == 2048
    assert loaded.shape.num_blocks == 4
    assert [check.passed for check in loaded.checks] == [True] * 4
    assert loaded.tokenizer("a").input_ids == [loaded.tokenizer.convert_tokens_to_ids("a")]


@pytest.mark.parametrize(
    ("family", "changes", "expected"),
    [
        ("gpt2", {"n_positions": 64}, 64),
        ("gemma3", {"text_config": {"max_position_embeddings": 64}}, 64),
        ("mamba", {}, None),
    ],
)
def test_context_length_wherever_the_config_has_it(family, changes, expected, folder):
    """A length that is nested in the config taken as unknown: prompts run past the last position."""
    config = AutoConfig.for_model(family, **changes)
    loaded = dataclasses.replace(load(str(folder)), model=SimpleNamespace(config=config))
    assert loaded.context_length == expected


def test_dtype_is_the_one_asked_for(folder, tmp_path):
    """A measurement in another precision than its identity says."""
    assert load(str(folder), dtype="bfloat16").output_dtype == "bfloat16"
    toy_model(dtype=torch.bfloat16).save_pretrained(tmp_path / "half")
    load(str(folder)).tokenizer.save_pretrained(tmp_path / "half")
    assert load(str(tmp_path / "half")).model.dtype == torch.bfloat16
    assert load(str(tmp_path / "half"), dtype="float32").model.dtype == torch.float32


def test_attention_is_the_one_asked_for(folder):
    """An attention implementation that is recorded but not used."""
    assert load(str(folder), attention="eager").model.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "float8"}, "--dtype is 'float8', expected one of float32, bfloat16, float16, auto"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used"),
    ],
)
def test_wrong_option_is_refused(folder, options, words):
    """A mistake that ends in a traceback of torch."""
    with pytest.raises(ModelError, match=words):
        load(str(folder), **options)


def test_unproved_model_is_refused_unless_looked_at(folder, monkeypatch):
    """A model measured although its proof failed, or a failed proof that cannot be looked at."""

    class Wrong(ModelAdapter):
        def readout(self, hidden_RD, **named):
            return super().readout(hidden_RD * 1.5 + 1, **named)

    monkeypatch.setattr(load_module, "ModelAdapter", Wrong)
    with pytest.raises(ValidationError, match="readout of the hidden state at depth L"):
        load(str(folder))
    assert [check.passed for check in load(str(folder), require=False).checks] == [False, True, True, True]


def test_blocks_that_the_config_leaves_out_are_refused(tmp_path):
    """A checkpoint of four blocks scored as a model of two, because its config says so."""
    folder = save_toy(tmp_path / "toy", num_blocks=4)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2, "layer_types": None}))
    with pytest.raises(ModelError, match=r"hold blocks that the config leaves out, e\.g\. model\.layers\.2\."):
        load(str(folder))
