"""Atomic writes: the whole file or the one before it, never something in between."""

import errno
import json
import math
import os
from pathlib import Path

import pytest

from exitbench.errors import ExitbenchError
from exitbench.files import replacing, write_json, write_text


class _StoppedError(Exception):
    pass


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_when_it_is_complete(tmp_path):
    """A reader that finds half a file."""
    path = tmp_path / "new" / "folder" / "file.txt"
    with replacing(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent  # a rename between file systems is no rename
    assert path.read_text() == "half"
    assert _names(path.parent) == ["file.txt"]


def test_failure_leaves_the_old_file(tmp_path):
    """A result lost because a later one could not be written."""
    path = tmp_path / "file.txt"
    path.write_text("old")

    def stop_midway():
        with replacing(path) as temporary:
            temporary.write_text("new")
            raise _StoppedError

    with pytest.raises(_StoppedError):
        stop_midway()
    assert path.read_text() == "old"
    assert _names(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("moment", ["write", "sync", "rename"])
def test_full_disk(tmp_path, monkeypatch, moment):
    """A traceback, an old file destroyed, or half a new one left."""
    path = tmp_path / "file.txt"
    path.write_text("old")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = {"write": (Path, "write_text"), "sync": (os, "fsync"), "rename": (Path, "replace")}[moment]
    with monkeypatch.context() as patch:
        patch.setattr(*target, full)
        with pytest.raises(ExitbenchError, match=r"cannot write .*file\.txt: No space left on device; free some space"):
            write_text(path, "new")
    assert path.read_text() == "old"
    assert _names(tmp_path) == ["file.txt"]


def test_content_is_synced_before_it_gets_its_name(tmp_path, monkeypatch):
    """A power cut that leaves an empty file under the final name."""
    order = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: order.append("sync") or sync(descriptor))
    monkeypatch.setattr(Path, "replace", lambda self, target: order.append("name") or replace(self, target))
    write_text(tmp_path / "file.txt", "x" * 100_000)
    assert order == ["sync", "name"]


def test_path_in_the_way(tmp_path):
    """A traceback where a file is taken for a folder."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ExitbenchError, match="cannot write"):
        write_text(tmp_path / "file" / "new.txt", "x")
    assert (tmp_path / "file").read_text() == "mine"


def test_folder_in_the_way(tmp_path):
    """A folder replaced by a file."""
    (tmp_path / "name").mkdir()
    with pytest.raises(ExitbenchError, match="cannot write"):
        write_text(tmp_path / "name", "x")
    assert _names(tmp_path) == ["name"]


def test_folder_as_the_file(tmp_path, monkeypatch):
    """A traceback about an empty name, or work done that has no place to go."""
    monkeypatch.chdir(tmp_path)
    for target in (Path(), Path(".."), tmp_path):
        with pytest.raises(ExitbenchError, match=r"cannot write .+: Is a directory"), replacing(target):
            pytest.fail("work was begun")
    assert _names(tmp_path) == []


@pytest.mark.parametrize("error", [PermissionError, NotADirectoryError])
def test_clean_up_does_not_hide_what_went_wrong(tmp_path, monkeypatch, error):
    """A traceback about a temporary file, where the disk was full."""

    def fail(*_, **__):
        raise error

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("exists", "unlink"):
        monkeypatch.setattr(Path, name, fail)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ExitbenchError, match="No space left on device"):
        write_text(tmp_path / "file.txt", "x")


def test_text_is_utf8_whatever_the_locale(tmp_path):
    """A prompt in another script that cannot be written under a C locale."""
    write_text(tmp_path / "file.txt", "caf\u00e9 \u732b")
    assert (tmp_path / "file.txt").read_bytes() == b"caf\xc3\xa9 \xe7\x8c\xab"


def test_json(tmp_path):
    """A NaN in a file that no strict reader takes, or text escaped beyond recognition."""
    write_json(tmp_path / "a.json", {"n": 1, "name": "caf\u00e9", "none": None})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"n": 1, "name": "caf\u00e9", "none": None}
    assert "caf\u00e9" in text
    assert text.endswith("}\n")
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="JSON compliant"):
            write_json(tmp_path / "b.json", {"value": value})
    assert _names(tmp_path) == ["a.json"]


def test_json_of_own_types(tmp_path):
    """A type that JSON does not know and that is dropped."""
    write_json(tmp_path / "a.json", {"path": Path("x")}, default=str)
    assert json.loads((tmp_path / "a.json").read_text()) == {"path": "x"}
