"""What a user types after `--workload`: a registered name, a file, or a dataset on the hub.

A registered name wins over a file of the same name; `./mini` means the file.
"""

from pathlib import Path

from exitbench.errors import UnknownNameError, WorkloadError
from exitbench.workloads.builtin import WORKLOADS
from exitbench.workloads.files import FILE_LOADERS
from exitbench.workloads.hub import load_hub
from exitbench.workloads.workload import Workload

__all__ = ["load_workload"]

_HUB_PREFIX = "hub:"
_EXPECTED = f"expected a name, a file ending in {', '.join(FILE_LOADERS)}, or {_HUB_PREFIX}ID"


def load_workload(spec: str) -> Workload:
    """Load a workload.

    Args:
        spec: a registered name; a path to a `.jsonl`, `.txt` or `.md` file; or `hub:ID[/CONFIG][:SPLIT]`.

    Raises:
        UnknownNameError: neither a registered name nor an existing file.
        WorkloadError: a file or dataset that cannot be read or holds a mistake.
    """
    if spec.startswith(_HUB_PREFIX):
        return load_hub(spec.removeprefix(_HUB_PREFIX))
    path = Path(spec)
    if spec in WORKLOADS or not _exists(path):
        return _registered(spec)
    loader = FILE_LOADERS.get(path.suffix.lower())
    if loader is None:
        raise WorkloadError(f"workload {spec!r} is not a file that can be read as one; {_EXPECTED}")
    return loader(path)


def _registered(name: str) -> Workload:
    try:
        build = WORKLOADS.get(name)
    except UnknownNameError as error:
        raise UnknownNameError(f"{error}; nor is there a file of that name ({_EXPECTED})") from error
    return build()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long for the file system
        return False
