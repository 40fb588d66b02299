"""The folder where fetched and converted weights are kept.

Everything in it is addressed by content and either complete or absent: a folder is built under another name,
under a lock, and renamed as its last step. Nothing in it is precious; deleting it costs a download and a
conversion.

Non-goals: eviction, and the hub's own cache, which huggingface_hub keeps where its users expect it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock

from exitbench.errors import ModelError

__all__ = [
    "CACHE_VARIABLE",
    "build_folder",
    "cache_root",
    "hash_config",
    "hash_file",
    "hash_weights",
    "lacking_tokenizer_file",
    "weight_files",
]

CACHE_VARIABLE = "EXITBENCH_CACHE"
# What transformers reads of a model folder besides the weights, the code of remote models included.
_CONFIG_FILES = (
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "tekken.json",
    "*.model",
    "*.tiktoken",
    "*.jinja",
    "additional_chat_templates/*.jinja",
    "*.py",
)
# Each is enough to load a tokeniser from; tokenizer_config.json alone makes an empty one, or none.
_TOKENIZERS = (
    ("tokenizer.json",),
    ("*.model",),
    ("*.tiktoken",),
    ("*tekken*.json",),
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
    ("vocab.json", "source.spm"),
)


def cache_root() -> Path:
    """Return the cache folder: the variable EXITBENCH_CACHE, else the platform's cache folder of the user."""
    override = os.environ.get(CACHE_VARIABLE)
    return Path(override).expanduser() if override else platformdirs.user_cache_path("exitbench")


def hash_file(path: Path) -> str:
    """Return the sha256 of a file as hexadecimal digits, reading it in pieces.

    Raises:
        ModelError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}; check its permissions") from error


def hash_weights(folder: Path) -> str:
    """Return one sha256 over the names and contents of `weight_files`.

    Raises:
        ModelError: the index is broken, or a file is missing or cannot be read.
    """
    return _hash_files(folder, weight_files(folder))


def weight_files(folder: Path) -> list[str]:
    """Return the names of the safetensors files in `folder` and of the shards in its index, which may lie deeper.

    Raises:
        ModelError: the index is broken.
    """
    names = {path.name for path in folder.glob("*.safetensors")}
    index = folder / "model.safetensors.index.json"
    return sorted(names | _shards(index)) if index.is_file() else sorted(names)


def lacking_tokenizer_file(folder: Path) -> str | None:
    """Return the name of a file for want of which no tokeniser can be loaded from `folder`; None if nothing lacks."""
    lacking = [[name for name in names if not any(folder.glob(name))] for names in _TOKENIZERS]
    if not all(lacking):
        return None
    begun = (absent[0] for names, absent in zip(_TOKENIZERS, lacking, strict=True) if len(absent) < len(names))
    return next(begun, "tokenizer.json")


def hash_config(folder: Path) -> str:
    """Return one sha256 over the names and contents of what else `from_pretrained` reads in `folder`.

    These are the configs, the tokeniser, the chat templates and the Python code. The model card is not among them.

    Raises:
        ModelError: a file cannot be read.
    """
    found = {path for pattern in _CONFIG_FILES for path in folder.glob(pattern) if path.is_file()}
    return _hash_files(folder, sorted(path.relative_to(folder).as_posix() for path in found))


def _hash_files(folder: Path, names: Iterable[str]) -> str:
    total = hashlib.sha256()
    for name in names:
        total.update(f"{name} {hash_file(folder / name)}\n".encode())
    return total.hexdigest()


def _shards(index: Path) -> set[str]:
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {index}: {error}; fetch it again") from error
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise ModelError(f"{index} has no weight_map; expected the file of each tensor; fetch it again")
    return set(weight_map.values())


def build_folder(target: Path, fill: Callable[[Path], None]) -> Path:
    """Create the folder `target` by calling `fill` on a temporary folder beside it, unless it exists already.

    Only one process fills at a time; the others wait and find the folder made. What an earlier run left
    behind when it was killed is removed first.

    Args:
        target: folder to create, below the cache folder.
        fill: writes the files into the folder it is given.

    Returns:
        `target`.

    Raises:
        ModelError: the folder cannot be written, or whatever `fill` raises.
    """
    if target.exists():
        return target  # needs no lock, so a cache that is read-only serves as well
    partial = target.with_name(f"{target.name}.partial")
    with _writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f"{target.name}.lock")):
            if target.exists():
                return target
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                fill(partial)
                partial.replace(target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return target


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelError(
            f"cannot write {target}: {error.strerror or error}; free some space, or set "
            f"{CACHE_VARIABLE} to a folder that can be written"
        ) from error
