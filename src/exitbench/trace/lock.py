"""One run at a time writes a trace folder.

The lock lies in the cache folder, under a name made of the trace folder's path, so that the trace folder holds nothing
but the trace. The system lets go of it when a run ends, however it ends, so a killed run locks nobody out.

Non-goals: runs on two machines, or with two cache folders, that share one trace folder.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from exitbench.errors import TraceError
from exitbench.models.cache import CACHE_VARIABLE, cache_root

__all__ = ["sole_writer"]


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Keep other runs from writing `folder`.

    Raises:
        TraceError: another run is writing it, or the cache folder cannot be written.
    """
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()
    file = cache_root() / "locks" / f"{name}.lock"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise TraceError(
            f"another run is writing {folder}; wait until it ends, or choose another --out folder"
        ) from error
    except OSError as error:
        raise TraceError(
            f"cannot write {file}: {error.strerror or error}; set {CACHE_VARIABLE} to a folder that can be written"
        ) from error
    try:
        yield
    finally:
        lock.release()
