"""From what the user typed to a folder of weights; nothing here reaches the network."""

import json
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors as hub_errors

from exitbench.errors import ModelError
from exitbench.models import pypi, source
from exitbench.models.cache import hash_file
from exitbench.models.pypi import PinnedGguf, PinnedWheel
from exitbench.models.source import SHORT_NAMES, resolve
from exitbench.models.toy import save_toy

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WriteGguf = Callable[..., dict[str, torch.Tensor]]


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache with one toy model, `org/toy`, and no network."""
    root = tmp_path / "hub"
    repository = root / "models--org--toy"
    save_toy(repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "blobs").mkdir()
    card = "---\nlanguage: en\nlicense: apache-2.0\n---\n# Toy\nlicense: mit\n"
    (repository / "snapshots" / COMMIT / "README.md").write_text(card)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(root))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return root


def test_short_name_is_the_pinned_file(
    tmp_path: Path,
    cache: Path,
    write_gguf: WriteGguf,
    publish: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bug: a short name fetched again on every load, or its identity read from the converted files."""
    write_gguf(tmp_path / "toy.gguf", file_type=3)
    wheel = publish("toy", "1.0", {"toy/toy.gguf": (tmp_path / "toy.gguf").read_bytes()})
    pin = PinnedGguf(
        wheels=(PinnedWheel(name="toy", version="1.0", sha256=hash_file(wheel), member="toy/toy.gguf"),),
        release="toy 1.0",
        size_mib=1,
        gguf_sha256=hash_file(tmp_path / "toy.gguf"),
        licence="MIT",
        hub_id="org/original",
        notice="Read the terms.",
    )
    monkeypatch.setattr(source, "SHORT_NAMES", {"toy": pin})
    lines: list[str] = []
    found = resolve("toy", progress=lines.append)
    assert found.path.is_relative_to(cache)
    assert (found.name, found.kind, found.revision) == ("toy", "pypi", "toy 1.0")
    assert (found.licence, found.notice, found.quantisation) == ("MIT", "Read the terms.", "GGUF Q4_1")
    assert found.hub_id == "org/original"
    assert (found.weights_sha256, found.config_sha256) == (pin.gguf_sha256, None)
    assert len(lines) == 2
    monkeypatch.setattr(pypi, "fetch_wheel", None)
    assert resolve("toy", progress=lines.append) == found
    assert len(lines) == 2
    assert not list(cache.rglob("*.gguf"))


def test_package(tmp_path: Path, cache: Path, write_gguf: WriteGguf, publish: Callable[..., Path]) -> None:
    """Bug: the same GGUF from a package and from a file count as two models."""
    write_gguf(tmp_path / "toy.gguf")
    publish("toy", "1.0", {"toy/w.gguf": (tmp_path / "toy.gguf").read_bytes()})
    found = resolve("pypi:toy==1.0")
    assert (found.kind, found.name) == ("pypi", "toy==1.0")
    assert found.revision is not None
    assert found.revision.startswith("toy 1.0 (wheel sha256 ")
    from_file = resolve(str(tmp_path / "toy.gguf"))
    assert (from_file.kind, from_file.name, from_file.revision) == ("gguf", "toy", None)
    assert (from_file.path, from_file.weights_sha256) == (found.path, found.weights_sha256)
    assert from_file.licence == "mit"
    assert from_file.config_sha256 is None


def test_local_folder(tmp_path: Path) -> None:
    """Bug: the same weights in another place get another identity."""
    first = resolve(str(save_toy(tmp_path / "one")))
    second = resolve(str(save_toy(tmp_path / "two")))
    other = resolve(str(save_toy(tmp_path / "three", seed=1)))
    assert (first.kind, first.name, first.revision, first.quantisation) == ("local", "one", None, None)
    assert first.hub_id is None
    assert first.weights_sha256 == second.weights_sha256 != other.weights_sha256
    assert first.config_sha256 == second.config_sha256 == other.config_sha256 is not None


def test_template_is_part_of_what_identifies_a_folder(tmp_path: Path) -> None:
    """Bug: another chat template, another prompt, and yet the same identity."""
    first = resolve(str(save_toy(tmp_path / "toy")))
    with (tmp_path / "toy" / "chat_template.jinja").open("a") as template:
        template.write("again")
    second = resolve(str(tmp_path / "toy"))
    assert first.weights_sha256 == second.weights_sha256
    assert first.config_sha256 != second.config_sha256


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq 4-bit"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": False, "load_in_4bit": True}, "bitsandbytes 4-bit"),
        ({"quant_method": "torchao"}, "torchao"),
    ],
)
def test_quantised_folder_says_so(stated: dict[str, object], expected: str, tmp_path: Path) -> None:
    """Bug: a card calls 4-bit weights full weights."""
    folder = save_toy(tmp_path / "toy")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = stated
    (folder / "config.json").write_text(json.dumps(config))
    assert resolve(str(folder)).quantisation == expected


def test_pickles_are_refused(tmp_path: Path) -> None:
    """Bug: a pickle, which can run code, is loaded where safetensors are missing."""
    folder = save_toy(tmp_path / "toy")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="no safetensors weights; pickled weights"):
        resolve(str(folder))


def test_missing_shard(tmp_path: Path) -> None:
    """Bug: a broken copy found only after minutes of loading, as a traceback."""
    folder = save_toy(tmp_path / "toy")
    weight_map = {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ModelError, match=r"lacks 1 of 2 weight files, e\.g\. model-00002"):
        resolve(str(folder))


def test_shards_in_a_subfolder(tmp_path: Path) -> None:
    """Bug: weights that transformers would load are said to be missing."""
    folder = save_toy(tmp_path / "toy")
    (folder / "parts").mkdir()
    (folder / "model.safetensors").rename(folder / "parts" / "model.safetensors")
    index = {"metadata": {}, "weight_map": {"a": "parts/model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert resolve(str(folder)).weights_sha256


def test_hub_model_in_the_cache(hub_cache: Path) -> None:
    """Bug: no commit in the identity, so figures of two revisions look like one; licence from the prose."""
    found = resolve("org/toy")
    assert (found.kind, found.name, found.revision) == ("hub", "org/toy", COMMIT)
    assert (found.licence, found.hub_id) == ("apache-2.0", "org/toy")
    assert resolve("org/toy", revision=COMMIT) == found


def test_hub_model_not_in_the_cache(hub_cache: Path) -> None:
    """Bug: pages of traceback without a network."""
    with pytest.raises(ModelError, match=r"org/other is not in the hub cache.*smollm2-135m-instruct") as caught:
        resolve("org/other")
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="org/toy at revision 'v2' is not in the hub cache"):
        resolve("org/toy", revision="v2")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (hub_errors.GatedRepoError, r"gated; accept its terms"),
        (hub_errors.RepositoryNotFoundError, r"not on the hub, or is private"),
        (hub_errors.RevisionNotFoundError, r"no revision 'v2'"),
        (OSError, r"cannot fetch .*: first line second line"),
    ],
)
def test_hub_errors(error: type[OSError], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a gated model reported as missing, since one error is a subclass of the other."""

    def download(*args: object, **kwargs: object) -> str:
        if error is OSError:
            raise OSError("first line\n\nsecond line")
        raise error.__new__(error)  # the hub builds its errors from a whole HTTP response

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(ModelError, match=message) as caught:
        resolve("org/name", revision="v2")
    assert "\n" not in str(caught.value)


def test_hub_download_takes_no_pickles(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: gigabytes of pickles and duplicate formats fetched, or a chat template left out."""
    seen: dict[str, list[str]] = {}

    def download(repo_id: str, **kwargs: list[str]) -> str:
        seen.update(kwargs)
        return str(hub_cache / "models--org--toy" / "snapshots" / COMMIT)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    resolve("org/toy")
    offered = [
        "model.safetensors",
        "config.json",
        "chat_template.jinja",
        "merges.txt",
        "tokenizer.model",
        "pytorch_model.bin",
        "model.pt",
        "original/model.safetensors",
        "onnx/config.json",
        "consolidated.safetensors",
    ]
    kept = huggingface_hub.utils.filter_repo_objects(
        offered, allow_patterns=seen["allow_patterns"], ignore_patterns=seen["ignore_patterns"]
    )
    assert list(kept) == offered[:5]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("smolm2", "did you mean smollm2-135m-instruct"),
        ("Gemma3-270M", "did you mean gemma3-270m"),
        ("gpt2", "expected a short name .* a hub id org/name"),
        ("", r"no config\.json"),
        ("no/such/folder", "unknown model"),
        ("missing/file.gguf", r"a \.gguf file that exists"),
        ("../x", "unknown model"),
    ],
)
def test_unknown_model(spec: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a typing mistake sent to the hub, or an error that names no way out."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=message):
        resolve(spec)


def test_not_a_model(tmp_path: Path, cache: Path) -> None:
    """Bug: a traceback for a folder or file of another kind."""
    with pytest.raises(ModelError, match=r"no config\.json.*another folder"):
        resolve(str(tmp_path))
    (tmp_path / "w.gguf").write_bytes(b"not GGUF at all")
    with pytest.raises(ModelError, match=r"no config\.json.*w\.gguf"):
        resolve(str(tmp_path))
    with pytest.raises(ModelError, match="does not begin like a GGUF file"):
        resolve(str(tmp_path / "w.gguf"))
    (tmp_path / "model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelError, match=r"expected a \.gguf file"):
        resolve(str(tmp_path / "model.bin"))


def test_revision_only_for_the_hub(tmp_path: Path) -> None:
    """Bug: --revision ignored without a word."""
    folder = save_toy(tmp_path / "toy")
    for spec in (str(folder), "smollm2-135m-instruct", "pypi:x==1"):
        with pytest.raises(ModelError, match="is not a hub id; leave the option out"):
            resolve(spec, revision="main")


def test_gemma_notice() -> None:
    """Bug: Gemma used without showing its terms, which they require."""
    assert "ai.google.dev/gemma/terms" in (SHORT_NAMES["gemma3-270m"].notice or "")
