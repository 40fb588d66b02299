"""A folder for weights that cannot be read from disk as they are stored.

A weight that waits on disk is read from the checkpoint in place. Where the model's own layout differs from the
checkpoint's (the experts of most mixtures are kept as one tensor), transformers writes the converted weight to a
folder. That folder lies in the cache, is held by a lock, and goes when its model goes; what a killed process left
behind goes when the next one comes.
"""

import shutil
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from exitbench.errors import ModelError
from exitbench.models.cache import CACHE_VARIABLE, cache_root

__all__ = ["Spill", "spill_folder"]


class Spill:
    """A folder that nobody else uses or removes; made when something is written to it."""

    def __init__(self, lock: FileLock) -> None:
        self._lock = lock

    @property
    def folder(self) -> Path:
        """Where to write."""
        return Path(self._lock.lock_file).with_suffix("")

    def keep_for(self, owner: object) -> None:
        """Keep the folder as long as `owner` lives, at most until the process ends."""
        weakref.finalize(owner, self.remove)

    def remove(self) -> None:
        """Remove the folder and its lock."""
        shutil.rmtree(self.folder, ignore_errors=True)
        Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()


@contextmanager
def spill_folder() -> Iterator[Spill]:
    """A new folder; removed if the block fails, else kept for whom the block says.

    Raises:
        ModelError: the cache folder cannot be written.
    """
    root = cache_root() / "offload"
    try:
        root.mkdir(parents=True, exist_ok=True)
        for left in root.glob("*.lock"):
            _remove_if_abandoned(left)
        lock = FileLock(root / f"{uuid.uuid4().hex}.lock")
        lock.acquire(blocking=False)
    except OSError as error:
        raise ModelError(
            f"cannot write {root}: {error.strerror or error}; set {CACHE_VARIABLE} to a folder that can be written"
        ) from error
    spill = Spill(lock)
    try:
        yield spill
    except BaseException:
        spill.remove()
        raise


def _remove_if_abandoned(file: Path) -> None:
    lock = FileLock(file)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return  # a running process holds it
    Spill(lock).remove()
