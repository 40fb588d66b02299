"""How blocks mix tokens, and how far: what is stated held against what is seen."""

import pytest
import torch

from exitbench.models.adapter import ModelAdapter
from exitbench.models.discover import probe_ids
from exitbench.models.mixing import mixing_of, window_of
from exitbench.models.toy import toy_model


def _mixing(model_type):
    model = toy_model(model_type, num_blocks=None)
    adapter = ModelAdapter(model)
    with torch.no_grad():
        probe = adapter.record(probe_ids(model))
        return adapter, [mixing_of(adapter, index, probe) for index in range(adapter.num_blocks)]


@pytest.mark.parametrize(
    ("model_type", "modules", "reach"),
    [
        ("llama", ("self_attn",), 24),
        ("gpt2", ("attn",), 24),
        ("gptj", ("attn",), 24),
        ("mamba", ("mixer",), 24),
        ("falcon_h1", ("mamba", "self_attn"), 24),
        ("lfm2", ("conv",), 3),
    ],
)
def test_what_mixes_and_how_far(model_type, modules, reach):
    """An MLP behind attention taken for a mixer because its input has changed everywhere."""
    _, mixing = _mixing(model_type)
    assert (mixing[0].modules, mixing[0].reach) == (modules, reach)


def test_blocks_that_do_not_mix():
    """A block that is an MLP, or experts, taken for attention."""
    _, mixing = _mixing("nemotron_h")
    assert [(m.modules, m.reach > 1) for m in mixing] == [
        (("mixer",), True),
        ((), False),
        (("mixer",), True),
        ((), False),
    ]


@pytest.mark.parametrize(
    "model_type",
    ["llama", "mistral", "gemma2", "gemma3_text", "gpt_neo", "gpt_oss", "llama4_text", "exaone4", "cohere2", "qwen2"],
)
def test_stated_windows_are_the_real_ones(model_type):
    """A window read from a config that the model does not follow, or that holds for some of its blocks only."""
    adapter, mixing = _mixing(model_type)
    for path, seen in zip(adapter.paths.blocks, mixing, strict=True):
        assert seen.reach == (window_of(adapter.model.config, path) or 24), path


@pytest.mark.parametrize(
    ("model_type", "name"),
    [("mamba", "SSM"), ("jamba", "SSM"), ("recurrent_gemma", "SSM"), ("lfm2", "convolution"), ("rwkv", None)],
)
def test_names_of_recurrences(model_type, name):
    """A state-space model reported as linear attention."""
    _, mixing = _mixing(model_type)
    assert mixing[0].recurrence == (name or "linear attention")
