"""Folders that are complete or absent, and hashes of weights and configs."""

import json
import multiprocessing
from pathlib import Path

import pytest

from exitbench.errors import ModelError
from exitbench.models.cache import build_folder, cache_root, hash_config, hash_file, hash_weights, weight_files


def test_variable_moves_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: the variable is read once at import, or an empty one means the current folder."""
    assert cache_root() == cache
    monkeypatch.setenv("EXITBENCH_CACHE", "")
    assert cache_root().name == "exitbench"


def test_failure_leaves_nothing(tmp_path: Path) -> None:
    """Bug: a half-written folder is taken for a whole one by the next run."""

    def fill(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_folder(tmp_path / "target", fill)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_leftovers_of_a_killed_run_are_dropped(tmp_path: Path) -> None:
    """Bug: files of a killed run end up in the folder of the next one."""
    (tmp_path / "target.partial").mkdir()
    (tmp_path / "target.partial" / "old").write_text("x")
    folder = build_folder(tmp_path / "target", lambda folder: (folder / "new").touch())
    assert [path.name for path in folder.iterdir()] == ["new"]


def test_full_disk_is_one_line(tmp_path: Path) -> None:
    """Bug: a traceback when the disk is full, and the partial folder keeps it full."""

    def fill(folder: Path) -> None:
        (folder / "big").write_text("x")
        raise OSError(28, "No space left on device")

    with pytest.raises(ModelError, match="No space left on device; free some space"):
        build_folder(tmp_path / "target", fill)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def _note_and_fill(root: Path, barrier: "multiprocessing.synchronize.Barrier") -> None:
    barrier.wait()

    def fill(folder: Path) -> None:
        with (root / "fills").open("a") as log:
            log.write("fill\n")
        (folder / "file").touch()

    build_folder(root / "target", fill)


def test_two_processes_fill_once(tmp_path: Path) -> None:
    """Bug: workers started together all convert the same model at the same time."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(3)
    workers = [context.Process(target=_note_and_fill, args=(tmp_path, barrier)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert (tmp_path / "fills").read_text() == "fill\n"


def test_hash_of_weights_sees_every_change(tmp_path: Path) -> None:
    """Bug: renamed, swapped or changed shards keep the hash, or the order of the listing changes it."""
    (tmp_path / "b.safetensors").write_bytes(b"2")
    (tmp_path / "a.safetensors").write_bytes(b"1")
    first = hash_weights(tmp_path)
    (tmp_path / "notes.txt").write_text("no weights")
    assert hash_weights(tmp_path) == first
    (tmp_path / "a.safetensors").write_bytes(b"2")
    (tmp_path / "b.safetensors").write_bytes(b"1")
    swapped = hash_weights(tmp_path)
    (tmp_path / "a.safetensors").rename(tmp_path / "c.safetensors")
    assert len({first, swapped, hash_weights(tmp_path)}) == 3


def test_hash_of_weights_sees_shards_in_subfolders(tmp_path: Path) -> None:
    """Bug: weights that are loaded through the index change, and the hash does not."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "b.safetensors").write_bytes(b"2")
    (tmp_path / "a.safetensors").write_bytes(b"1")
    weight_map = {"x": "a.safetensors", "y": "parts/b.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert weight_files(tmp_path) == ["a.safetensors", "parts/b.safetensors"]
    first = hash_weights(tmp_path)
    (tmp_path / "parts" / "b.safetensors").write_bytes(b"3")
    assert hash_weights(tmp_path) != first


@pytest.mark.parametrize(
    "content", ["", "{", "{}", "[]", '{"weight_map": null}', '{"weight_map": {"a": 1}}', '{"weight_map": {"a": ["b"]}}']
)
def test_broken_index(content: str, tmp_path: Path) -> None:
    """Bug: a traceback for an index that broke off or is none."""
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json.*fetch it again") as caught:
        weight_files(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "tokenizer.model",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
        "chat_template.jinja",
        "additional_chat_templates/tools.jinja",
        "spiece.model",
        "qwen.tiktoken",
        "modeling.py",
    ],
)
def test_hash_of_config_sees_every_file(name: str, tmp_path: Path) -> None:
    """Bug: an edited tokeniser or chat template, and the model still counts as the same."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer_cache").mkdir()
    before = hash_config(tmp_path)
    (tmp_path / "README.md").write_text("no config")
    (tmp_path / "model.safetensors").write_bytes(b"1")
    assert hash_config(tmp_path) == before
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("changed")
    assert hash_config(tmp_path) != before


def test_unreadable_file(tmp_path: Path) -> None:
    """Bug: a traceback for a file that is a folder, or may not be read."""
    with pytest.raises(ModelError, match="cannot read"):
        hash_file(tmp_path)
