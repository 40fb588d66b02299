"""The folder where fetched and converted weights are kept.

Everything in it is addressed by content and either complete or absent: a folder is built under another name,
under a lock, and renamed as its last step. Nothing in it is precious; deleting it costs a download and a
conversion.

Non-goals: eviction, and the hub's own cache, which huggingface_hub keeps where its users expect it.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock

from exitbench.errors import ModelError

__all__ = ["CACHE_VARIABLE", "build_folder", "cache_root", "hash_file", "hash_weights"]

CACHE_VARIABLE = "EXITBENCH_CACHE"


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
    """Return one sha256 over the names and contents of the safetensors files in `folder`, by name."""
    total = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        total.update(f"{path.name} {hash_file(path)}\n".encode())
    return total.hexdigest()


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
