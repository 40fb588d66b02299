"""Quantised checkpoints, made here with the packages that read them; skipped where a package is not installed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, TorchAoConfig

from exitbench.errors import ModelError
from exitbench.models.load import LoadedModel, load
from exitbench.models.toy import byte_tokenizer

# Wide enough for the 64 weights that share a scale in 4 bits.
SIZES = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2}


def quantised(folder: Path, quantisation: Any) -> Path:
    """Write a toy checkpoint whose linear maps are quantised, the head excepted."""
    config = LlamaConfig(**SIZES, num_hidden_layers=3, vocab_size=259, bos_token_id=2, eos_token_id=0, pad_token_id=1)
    auto: Any = AutoModelForCausalLM
    auto.from_config(config).save_pretrained(folder / "plain")
    options = {"quantization_config": quantisation, "dtype": torch.bfloat16, "device_map": "cpu"}
    auto.from_pretrained(folder / "plain", **options).save_pretrained(folder / "quantised")
    byte_tokenizer().save_pretrained(folder / "quantised")
    return folder / "quantised"


def assert_measurable(loaded: LoadedModel, quantisation: str) -> None:
    """Proved, and known by its quantisation."""
    assert all(check.passed for check in loaded.checks)
    assert loaded.source.quantisation == quantisation
    assert loaded.output_dtype == "bfloat16"


def test_torchao(tmp_path: Path) -> None:
    """Bug: int8 weights of torchao cannot be measured, or end in a traceback where they cannot wait on disk."""
    pytest.importorskip("torchao")
    from torchao.quantization import Int8WeightOnlyConfig

    folder = quantised(tmp_path, TorchAoConfig(Int8WeightOnlyConfig()))
    loaded = load(str(folder))
    assert_measurable(loaded, "torchao")
    weight = loaded.model.get_submodule(f"{loaded.adapter.paths.blocks}.0.mlp.up_proj").weight
    assert type(weight).__name__ == "Int8Tensor"
    with pytest.raises(ModelError, match=r"cannot load the weights of quantised: .*disk") as caught:
        load(str(folder), device="auto", max_memory="cpu=0.3MB")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("num_bits", [4, 8])
def test_bitsandbytes(num_bits: int, tmp_path: Path) -> None:
    """Bug: a card that does not tell 4 bits from 8, or a model moved after loading, which bitsandbytes forbids."""
    pytest.importorskip("bitsandbytes")
    flag = {f"load_in_{num_bits}bit": True}
    loaded = load(str(quantised(tmp_path, BitsAndBytesConfig(**flag, bnb_4bit_compute_dtype=torch.bfloat16))))
    assert_measurable(loaded, f"bitsandbytes {num_bits}-bit")
    linear = loaded.model.get_submodule(f"{loaded.adapter.paths.blocks}.0.mlp.up_proj")
    assert type(linear).__name__ == {4: "Linear4bit", 8: "Linear8bitLt"}[num_bits]
