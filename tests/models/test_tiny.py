"""Configs of every type, small."""

import pytest

from exitbench.models.tiny import EXCEPTIONS, causal_model_types, tiny_config


def test_every_type_of_the_auto_mapping():
    """A type that is left out, or a name in the exceptions that no type has."""
    types = causal_model_types()
    assert len(types) == len(set(types)) > 150
    assert set(types) >= {"llama", "mixtral", "mamba", "jamba", "gpt2"}
    assert set(EXCEPTIONS) <= set(types)


def test_sizes_are_small_and_changes_win():
    """A size that keeps its default because its name is not known."""
    config = tiny_config("llama", num_blocks=3, hidden_size=48)
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (3, 48, 64)
    assert (config.num_attention_heads, config.num_key_value_heads, config.vocab_size) == (4, 2, 259)


def test_changes_reach_the_text_part():
    """A vocabulary of the text model set on the config around it."""
    config = tiny_config("gemma3", vocab_size=77)
    assert config.get_text_config().vocab_size == 77
    assert config.get_text_config().hidden_size == 32
    assert config.vision_config.hidden_size == 32


@pytest.mark.parametrize("num_blocks", [1, 2, 3, 6, 9])
@pytest.mark.parametrize("model_type", ["llama", "gemma3_text", "gpt2", "mamba", "zamba2", "nemotron_h", "opt"])
def test_number_of_blocks(model_type, num_blocks):
    """Lists with one entry a block that keep another length."""
    config = tiny_config(model_type, num_blocks=num_blocks)
    assert config.num_hidden_layers == num_blocks


def test_fewer_blocks_are_the_first_of_more():
    """Blocks that become another kind when one is added behind them."""
    kinds = [tiny_config("gemma3_text", num_blocks=n).layer_types for n in (2, 4, 7)]
    assert kinds[0] == kinds[1][:2]
    assert kinds[1] == kinds[2][:4]
    assert set(kinds[0]) == {"sliding_attention", "full_attention"}


def test_encoders_are_set_to_decode():
    """A BERT that sees tokens to its right."""
    assert tiny_config("bert").is_decoder
