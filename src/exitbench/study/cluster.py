"""Joining a Ray cluster, and what must be the same on all its machines.

Ray itself waits for minutes for an address where something else listens, prints what its nodes log where `--json`
prints, and ends this process without a word when the head of the cluster is gone. So an address is asked before it is
joined, nodes are not heard, and the head is looked for while cells are waited for.

Non-goals: starting clusters, and what runs on them (`on_ray`).
"""

import hashlib
import importlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import exitbench
from exitbench.env import library_versions
from exitbench.errors import StudyError
from exitbench.models.cache import hash_file
from exitbench.models.strict import one_line

__all__ = ["Head", "connected", "differences", "fingerprint"]

_HEAD_S = 20.0
"""How long the head of a cluster may be away; after a minute Ray ends this process."""
_ANSWER_S = 5.0
"""How long an address may take to accept a connection."""
_STATUS_S = 20.0
"""How long it may take to answer as a cluster, the start of Ray's own command included."""
_GOODBYE = ("RAY_gcs_server_request_timeout_seconds", "10")
"""What bounds leaving a cluster that is gone; Ray would try for a minute."""


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The library ray, connected to a cluster for the time of the context, or as this process is already.

    Args:
        address: HOST:PORT of the head, or "auto" for the cluster that this machine is part of.

    Raises:
        StudyError: ray is not installed, or no cluster answers there.
    """
    os.environ.setdefault(*_GOODBYE)  # is read when Ray is imported
    try:
        ray = importlib.import_module("ray")
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise StudyError("--ray needs Ray, which is not installed; run: pip install 'exitbench[ray]'") from error
    if ray.is_initialized():
        yield ray
        return
    if address != "auto":
        _require_cluster(address)
    worker: Any = importlib.import_module("ray._private.worker")
    heard = getattr(worker, "_worker_logs_enabled", True)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray raises whatever went wrong inside it
        raise StudyError(
            f"--ray {address}: no Ray cluster can be joined from here ({one_line(error)}); start one with: ray start "
            "--head, or run this on a machine of the cluster"
        ) from error
    try:
        worker._worker_logs_enabled = False  # or Ray prints on stdout what it logs of workers that it loses
        yield ray
    finally:
        ray.shutdown()
        worker._worker_logs_enabled = heard


def _require_cluster(address: str) -> None:
    """Refuse an address that is none, where nobody listens, or where no cluster does."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise StudyError(f"--ray is {address!r}, expected 'auto' or HOST:PORT of the head, such as 10.0.0.1:6379")
    if why := _why_no_answer(address):
        raise StudyError(
            f"--ray {address}: nothing answers there ({why}); is the cluster up, and is that the address that "
            "`ray start --head` printed?"
        )
    status = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address]
    try:
        subprocess.run(status, capture_output=True, timeout=_STATUS_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise StudyError(
            f"--ray {address}: what answers there is no Ray cluster, or does not within {_STATUS_S:.0f} s; give the "
            "address that `ray start --head` printed, which is not that of the dashboard"
        ) from error


class Head:
    """Looks whether the head of the cluster is still there.

    Args:
        ray: the library, connected.
    """

    def __init__(self, ray: Any) -> None:
        self._address: str = ray.get_runtime_context().gcs_address
        self._away_since: float | None = None

    def look(self) -> bool:
        """Look once, and say whether it is there.

        Raises:
            StudyError: it has been away for too long.
        """
        why, now = _why_no_answer(self._address), time.monotonic()
        if not why:
            self._away_since = None
        elif self._away_since is None:
            self._away_since = now
        elif now - self._away_since > _HEAD_S:
            raise StudyError(
                f"the head of the Ray cluster, {self._address}, was lost ({why}); what was measured is kept, so start "
                "the cluster and run the same command again"
            )
        return not why


def _why_no_answer(address: str) -> str:
    """Why HOST:PORT accepts no connection; nothing where it does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
    except UnicodeError:
        return "no host can have that name"
    except OSError as error:
        return error.strerror or str(error)
    return ""


def fingerprint(files: Sequence[str]) -> dict[str, str]:
    """What must be the same on every machine: libraries, exitbench's own code, and files that a spec names.

    Args:
        files: absolute paths.
    """
    code = hashlib.sha256()
    package = Path(exitbench.__file__).parent
    for path in sorted(package.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            code.update(f"{path.relative_to(package).as_posix()} {hash_file(path)}\n".encode())
    hashes = {file: hash_file(Path(file))[:12] if Path(file).is_file() else "missing" for file in files}
    return library_versions() | {"the code of exitbench": code.hexdigest()[:12]} | hashes


def differences(there: Mapping[str, str], here: Mapping[str, str]) -> str:
    """What sets two fingerprints apart; nothing where they are the same."""
    return ", ".join(
        f"{name} is {there.get(name)} there and {word} here" for name, word in here.items() if there.get(name) != word
    )
