"""Atomic file writes: a reader, or the next run, sees a file complete or not at all."""

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from exitbench.errors import ExitbenchError

__all__ = ["replacing", "write_json", "write_text"]

_ADVICE = {
    errno.ENOSPC: "free some space or choose another --out",
    errno.EISDIR: "it is a folder, give the name of a file in it",
}
"""What to do about an error of the operating system."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes the name `path`, on failure it is removed.

    Raises:
        ExitbenchError: the disk is full, the folder cannot be written, or `path` is a folder.
    """
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"  # `with_name` has no words for "."
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "choose another --out")
        raise ExitbenchError(f"cannot write {path}: {error.strerror or error}; {advice}") from error
    finally:
        with suppress(OSError):  # it is mostly gone already, and must not hide what went wrong
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, *, default: Callable[[Any], Any] | None = None) -> None:
    """Write `value` to `path` atomically, as indented JSON without NaN."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=default) + "\n")
