"""Where a model's weights wait and where they are used: on one device, or spread over all there is.

Spread ("auto") means, by accelerate: modules go to the GPUs in the order in which they run, the rest to main memory,
and what finds no room there stays on disk. A module whose weights wait elsewhere has them fetched for the time of its
own call, so every product is computed where it would be without spreading, on the GPUs if there are any. Numbers do
not change; only time does.

Non-goals: tensor parallelism, and several machines.
"""

import re
from typing import Any

import torch
from accelerate.utils import get_max_memory
from transformers import PreTrainedModel

from exitbench.errors import ModelError
from exitbench.models.strict import one_line
from exitbench.sizes import parse_size

__all__ = ["placement_options", "settle", "weights_wait_on"]

_LIMIT = re.compile(r"(?P<device>[\w:]+)=(?P<size>.+)")
# Of the memory that is free, where the user names no limit: activations and caches need some too.
_SHARE_OF_FREE = 0.9


def placement_options(device: str, max_memory: str | None) -> dict[str, Any]:
    """What `from_pretrained` is to be told of devices.

    Args:
        device: a torch device, or "auto" for all GPUs, then main memory, then disk.
        max_memory: with "auto", most bytes of weights by device, e.g. "cpu=8GiB,cuda:0=70GiB"; devices not named give
            nine tenths of what is free on them.

    Raises:
        ModelError: a device that cannot be used, or a limit that cannot be read.
    """
    if device == "auto":
        return {"device_map": "auto", "max_memory": None if max_memory is None else _budget(max_memory)}
    if max_memory is not None:
        raise ModelError(f"--max-memory goes with --device auto, got --device {device}; leave one of them out")
    _check_device(device)
    return {"device_map": device}


def settle(model: PreTrainedModel, name: str) -> None:
    """Make a model that was spread behave like any other: ids go to `model.device`, logits stay where the head is.

    Raises:
        ModelError: there is no device to give token ids to, since the limits leave no room for the embeddings.
    """
    if model.device.type == "meta":
        raise ModelError(
            f"the embeddings of {name} and one block do not fit on the first device; raise its limit in --max-memory"
        )
    hook: Any = getattr(model, "_hf_hook", None)
    if hook is not None:
        hook.io_same_device = False  # or logits of the whole vocabulary would travel to the device of the ids


def weights_wait_on(model: PreTrainedModel) -> str:
    """Devices that hold a model's weights between calls, e.g. "cpu" or "cuda:0+cpu+disk"."""
    devices = getattr(model, "hf_device_map", {"": model.device}).values()
    return "+".join(dict.fromkeys(_label(device) for device in devices))


def _label(device: int | str | torch.device) -> str:
    return f"cuda:{device}" if isinstance(device, int) else str(device)


def _check_device(device: str) -> None:
    try:
        is_real = torch.empty(0, device=device).device.type != "meta"
    except (RuntimeError, AssertionError) as error:  # torch asserts when it was built without CUDA
        raise ModelError(f"device {device!r} cannot be used: {one_line(error)}; try --device cpu") from error
    if not is_real:
        raise ModelError(f"device {device!r} computes nothing; try --device cpu")


def _budget(text: str) -> dict[int | str, int]:
    """Bytes by device, in accelerate's names: GPUs by number."""
    free = get_max_memory()
    devices = {_label(device): device for device in free}
    stated: dict[int | str, int] = {}
    for entry in text.split(","):
        limit = _LIMIT.fullmatch(entry.strip())
        size = parse_size(limit["size"]) if limit else None
        if limit is None or size is None:
            raise ModelError(
                f"--max-memory has {entry.strip()!r}, expected DEVICE=SIZE with commas between, e.g. "
                "cpu=8GiB,cuda:0=70GiB"
            )
        name = limit["device"].lower()
        name = f"cuda:{name}" if name.isdigit() else name
        if name not in devices:
            raise ModelError(f"--max-memory names {name}, expected one of {', '.join(devices)}")
        if devices[name] in stated:
            raise ModelError(f"--max-memory names {name} twice; give one limit a device")
        stated[devices[name]] = size
    return {device: int(_SHARE_OF_FREE * there) for device, there in free.items()} | stated
