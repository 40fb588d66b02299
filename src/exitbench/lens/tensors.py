"""Files of tensors with a record beside them: safetensors, written atomically, read with an error in one line."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from exitbench.errors import LensError
from exitbench.files import replacing

__all__ = ["read_tensors", "write_tensors"]

_KEY = "exitbench"


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], record: Mapping[str, Any]) -> None:
    """Write tensors and a record of plain JSON values to `path`: complete, or not at all.

    Raises:
        ExitbenchError: the file cannot be written.
    """
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        temporary.touch()
        permissions = temporary.stat().st_mode  # safetensors leaves the file readable for its owner alone
        try:
            save_file(stored, temporary, metadata={_KEY: json.dumps(record, sort_keys=True)})
            temporary.chmod(permissions)
        except SafetensorError as error:
            raise LensError(f"cannot write {path}: {error}; free some space or choose another --out") from error


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what `write_tensors` has written.

    Raises:
        LensError: the file is missing, damaged or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})[_KEY])
            return {name: file.get_tensor(name) for name in file.keys()}, record  # noqa: SIM118 -- no mapping
    except OSError as error:
        raise LensError(f"cannot read {path}: {error.strerror or error}; give a file of 'exitbench lens'") from error
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise LensError(
            f"{path} is no file of 'exitbench lens', or a damaged one ({reason}); train it again"
        ) from error
