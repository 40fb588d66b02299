"""Fixtures for where models come from: an empty cache, tiny GGUF files, wheels that were never published."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from exitbench.models import pypi
from exitbench.models.toy import byte_tokenizer, toy_model

# Weights that llama.cpp stores transposed with respect to GPT-2's Conv1D.
GPT2_TRANSPOSED = ("attn_qkv.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of our own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("EXITBENCH_CACHE", str(folder))
    return folder


def _rotary_rows(weight: np.ndarray, num_heads: int) -> np.ndarray:
    """Order the rows of a query or key projection as llama.cpp wants them: halves interleaved."""
    rows = weight.reshape(num_heads, 2, weight.shape[0] // num_heads // 2, *weight.shape[1:])
    return rows.swapaxes(1, 2).reshape(weight.shape)


def _write_header(writer: gguf.GGUFWriter, model: Any, *, pre: str, fields: dict[str, int]) -> None:
    config = model.config
    writer.add_name("A toy that must not leak")
    writer.add_license("mit")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    if config.model_type == "llama":
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_freq_base(50000.0)
    else:
        writer.add_feed_forward_length(4 * config.hidden_size)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    tokens = byte_tokenizer().convert_ids_to_tokens(list(range(config.vocab_size - 1)))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    # One merge, so that the split shows: two newlines are one token only if they are cut together.
    writer.add_token_list([*tokens, "\u010a\u010a"])
    writer.add_token_types([3, 3, 3, *[1] * (len(tokens) - 2)])
    writer.add_token_merges(["\u010a \u010a"])
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(1)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}<eos>{% endfor %}")
    for key, value in fields.items():
        writer.add_uint32(key, value)


def _write_gguf(
    path: Path,
    *,
    family: str = "llama",
    seed: int = 0,
    pre: str = "smollm",
    file_type: int = 0,
    quantise: bool = False,
    drop: Sequence[str] = (),
    extra: dict[str, np.ndarray] | None = None,
    fields: dict[str, int] | None = None,
) -> dict[str, torch.Tensor]:
    """Write a toy model as GGUF and return the tensors a right reader must find, by transformers' names."""
    model: Any = toy_model(family, seed=seed, num_blocks=2)
    if family == "gpt2":  # transformers takes GPT-2's number of positions from its default
        model.transformer.wpe = torch.nn.Embedding.from_pretrained(model.transformer.wpe.weight[:1024])
    model.resize_token_embeddings(model.config.vocab_size + 1, mean_resizing=False)
    arch = {"llama": gguf.MODEL_ARCH.LLAMA, "gpt2": gguf.MODEL_ARCH.GPT2}[family]
    names = gguf.get_tensor_name_map(arch, 2)
    writer = gguf.GGUFWriter(path, family)
    _write_header(writer, model, pre=pre, fields={"general.file_type": file_type} | (fields or {}))
    state = model.state_dict()
    for name, tensor in list(state.items()):
        stem, suffix = name.rsplit(".", 1)
        target = f"{names.get_name(stem)}.{suffix}"
        if name == "lm_head.weight" or target in drop:
            continue
        values = tensor.numpy()
        if quantise and values.ndim == 2:
            packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            state[name] = torch.from_numpy(gguf.quants.dequantize(packed, gguf.GGMLQuantizationType.Q8_0))
            writer.add_tensor(target, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
            continue
        if family == "llama" and ("attn_q." in target or "attn_k." in target):
            heads = model.config.num_attention_heads if "attn_q." in target else model.config.num_key_value_heads
            values = _rotary_rows(values, heads)
        if family == "gpt2" and target.endswith(GPT2_TRANSPOSED):
            values = values.T
        writer.add_tensor(target, np.ascontiguousarray(values))
    for name, values in (extra or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return state


@pytest.fixture
def write_gguf() -> Callable[..., dict[str, torch.Tensor]]:
    """The writer of tiny GGUF files, see `_write_gguf`."""
    return _write_gguf


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Publish wheels to an index in which pip downloads are looked up; returns the wheel written."""
    index = tmp_path / "index"
    index.mkdir()

    def fetch(name: str, version: str, folder: Path) -> Path:
        wheel = index / f"{name}-{version}.whl"
        copy = folder / wheel.name
        copy.write_bytes(wheel.read_bytes())
        return copy

    def write(name: str, version: str, members: dict[str, bytes]) -> Path:
        wheel = index / f"{name}-{version}.whl"
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        return wheel

    monkeypatch.setattr(pypi, "fetch_wheel", fetch)
    return write
