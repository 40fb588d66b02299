"""Conversion of GGUF files, on tiny files written here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from exitbench.errors import ModelError
from exitbench.models import gguf
from exitbench.models.cache import hash_file
from exitbench.models.source import ignore

WriteGguf = Callable[..., dict[str, torch.Tensor]]


def convert_file(path: Path) -> Path:
    return gguf.convert(hash_file(path), lambda _: path, name="toy", progress=ignore)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_convert_gives_the_tensors_of_the_model(
    family: str, tmp_path: Path, cache: Path, write_gguf: WriteGguf
) -> None:
    """Bug: projections left permuted or transposed, or the tied head saved as a second, random matrix."""
    expected = write_gguf(tmp_path / "toy.gguf", family=family)
    folder = convert_file(tmp_path / "toy.gguf")
    model: Any = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    state = model.state_dict()
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.dtype == torch.float32


def test_convert_leaves_a_plain_folder(tmp_path: Path, cache: Path, write_gguf: WriteGguf) -> None:
    """Bug: the GGUF quantiser, the file's title or scratch files stay behind in the converted folder."""
    write_gguf(tmp_path / "toy.gguf", file_type=7)
    folder = convert_file(tmp_path / "toy.gguf")
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config
    assert "leak" not in (folder / "config.json").read_text()
    assert config["rope_parameters"]["rope_theta"] == 50000.0
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "conversion.json"} <= names
    assert not any("scratch" in name or name.endswith(".gguf") for name in names)
    assert not list(cache.rglob("*.partial"))


def test_convert_dequantises(tmp_path: Path, cache: Path, write_gguf: WriteGguf) -> None:
    """Bug: packed weights read as numbers, or the quantisation missing from the record."""
    expected = write_gguf(tmp_path / "toy.gguf", file_type=7)
    plain = convert_file(tmp_path / "toy.gguf")
    assert gguf.read_conversion(plain).quantisation == "GGUF Q8_0"
    assert gguf.read_conversion(plain).licence == "mit"
    write_gguf(tmp_path / "packed.gguf", file_type=7, quantise=True)
    packed: Any = AutoModelForCausalLM.from_pretrained(convert_file(tmp_path / "packed.gguf"))
    name = "model.layers.0.mlp.up_proj.weight"
    error = (packed.state_dict()[name] - expected[name]).abs().max()
    assert 0 < error < expected[name].abs().max() / 100


def test_tokenizer_survives(tmp_path: Path, cache: Path, write_gguf: WriteGguf) -> None:
    """Bug: special tokens cut into pieces, or the chat template lost, once saved."""
    write_gguf(tmp_path / "toy.gguf")
    tokenizer = AutoTokenizer.from_pretrained(convert_file(tmp_path / "toy.gguf"))
    assert tokenizer("a<eos>").input_ids[-1] == 0
    assert tokenizer.convert_tokens_to_ids(["<eos>", "<pad>", "<bos>"]) == [0, 1, 2]
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert rendered == "hi<eos>"


@pytest.mark.parametrize(
    ("pre", "tokens", "warns"),
    [
        ("smollm", ["\u010a\u010a", "1", "2"], False),
        ("gpt-2", ["\u010a", "\u010a", "1", "2"], False),
        ("never-heard-of", ["\u010a", "\u010a", "1", "2"], True),
    ],
)
def test_digits_are_split_as_in_training(
    pre: str, tokens: list[str], warns: bool, tmp_path: Path, cache: Path, write_gguf: WriteGguf
) -> None:
    r"""Bug: "\n\n1" reaches SmolLM2 as other tokens than in training: transformers drops its digit rule."""
    write_gguf(tmp_path / "toy.gguf", pre=pre)
    folder = convert_file(tmp_path / "toy.gguf")
    assert AutoTokenizer.from_pretrained(folder).tokenize("\n\n12") == tokens
    warning = gguf.read_conversion(folder).warning
    assert (warning is not None) == warns
    assert not warns or "never-heard-of" in str(warning)


def test_dropped_tensors_are_refused(tmp_path: Path, cache: Path, write_gguf: WriteGguf) -> None:
    """Bug: Llama 3.1's rotary factors are dropped without a word, and the model is measured wrongly."""
    write_gguf(tmp_path / "toy.gguf", extra={"rope_freqs.weight": np.ones(4, dtype=np.float32)})
    with pytest.raises(ModelError, match=r"rope_freqs\.weight.*measured wrongly"):
        convert_file(tmp_path / "toy.gguf")
    assert not list(cache.rglob("conversion.json"))


def test_missing_tensors_are_refused(tmp_path: Path, cache: Path, write_gguf: WriteGguf) -> None:
    """Bug: a tensor that is not in the file is filled with random numbers."""
    write_gguf(tmp_path / "toy.gguf", drop=("blk.1.ffn_up.weight",))
    with pytest.raises(ModelError, match=r"lack 1 tensors.*up_proj"):
        convert_file(tmp_path / "toy.gguf")


def test_pieces_of_a_split_file_are_refused(tmp_path: Path, cache: Path, write_gguf: WriteGguf) -> None:
    """Bug: the first of several pieces taken for the model."""
    write_gguf(tmp_path / "toy.gguf", fields={"split.count": 3})
    with pytest.raises(ModelError, match="one of 3 pieces"):
        convert_file(tmp_path / "toy.gguf")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_truncated_file(share: float, tmp_path: Path, cache: Path, write_gguf: WriteGguf) -> None:
    """Bug: a traceback, or a model with garbage at its end, from a download that broke off."""
    whole, cut = tmp_path / "toy.gguf", tmp_path / "cut.gguf"
    write_gguf(whole)
    cut.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
    with pytest.raises(ModelError, match=r"cannot read the GGUF (file|weights) of toy") as caught:
        convert_file(cut)
    assert "\n" not in str(caught.value)
    assert not list(cache.rglob("conversion.json"))


def test_second_call_converts_nothing(tmp_path: Path, cache: Path, write_gguf: WriteGguf) -> None:
    """Bug: 15 s of conversion on every load."""
    path = tmp_path / "toy.gguf"
    write_gguf(path)
    first = convert_file(path)

    def fail(scratch: Path) -> Path:
        raise AssertionError("asked for the file again")

    assert gguf.convert(hash_file(path), fail, name="toy", progress=ignore) == first


def test_failed_proof_keeps_nothing(
    tmp_path: Path, cache: Path, write_gguf: WriteGguf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a tokeniser that loads back differently is kept, and every later run uses it."""
    write_gguf(tmp_path / "toy.gguf")
    load = AutoTokenizer.from_pretrained

    def forgetful(*args: Any, **kwargs: Any) -> Any:
        tokenizer = load(*args, **kwargs)
        if "gguf_file" not in kwargs:
            tokenizer.chat_template = None
        return tokenizer

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", forgetful)
    with pytest.raises(ModelError, match=r"tokeniser of toy does not load back the same"):
        convert_file(tmp_path / "toy.gguf")
    assert not list(cache.rglob("conversion.json"))


@pytest.mark.parametrize(
    ("file_type", "expected"),
    [
        (3, "GGUF Q4_1"),
        (15, "GGUF Q4_K_M"),
        (0, None),
        (1, None),
        (999, "GGUF type 999"),
        (None, "GGUF of unstated type"),
    ],
)
def test_quantisation_is_named(file_type: int | None, expected: str | None) -> None:
    """Bug: a card calls 4-bit weights full weights."""
    assert gguf._quantisation(file_type) == expected
