"""Checkpoints on this machine: a folder of folders, each of which `load` takes.

A checkpoint is a folder named step-N, or checkpoint-N as transformers' Trainer writes it, or by a pattern, or any whose
`checkpoint.json` says {"step": .., "tokens_seen": ..}; others are taken only by name. What is chosen is checked before
anything is measured: a sweep must not fail at its last checkpoint because that was never written to the end. Links that
lead out of the folder are refused, since what they lead to can change behind the names.

Non-goals: reading weights.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from exitbench.errors import ModelError
from exitbench.models.cache import lacking_tokenizer_file, weight_files
from exitbench.models.revision_names import Checkpoint, NamePattern

__all__ = ["CHECKPOINT_FILE", "check_folder", "folder_checkpoints"]

CHECKPOINT_FILE = "checkpoint.json"
"""Beside the weights: {"step": .., "tokens_seen": .., "tags": {NAME: TEXT}}, each left out where it is not known."""
_PATTERNS = ("step-{step}", "step{step}", "checkpoint-{step}")


def folder_checkpoints(root: Path, pattern: str | None, tokens_per_step: int | None) -> list[Checkpoint]:
    """The folders in `root`, by name; step and tokens as their names or `checkpoint.json` tell them, else None.

    Raises:
        ModelError: a `checkpoint.json` is malformed or contradicts the folder's name.
    """
    patterns = [NamePattern(text, tokens_per_step) for text in ([pattern] if pattern else _PATTERNS)]
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    return [_read(folder, patterns, tokens_per_step) for folder in folders]


def _read(folder: Path, patterns: Sequence[NamePattern], tokens_per_step: int | None) -> Checkpoint:
    step, tokens = next((numbers for each in patterns if (numbers := each.read(folder.name))), (None, None))
    checkpoint = Checkpoint(source=str(folder), revision=None, name=folder.name, step=step, tokens=tokens)
    if not (folder / CHECKPOINT_FILE).is_file():
        return checkpoint
    stated = _stated(folder / CHECKPOINT_FILE)
    if step is not None and stated.get("step", step) != step:
        raise ModelError(f"{folder / CHECKPOINT_FILE} says step {stated['step']}, but the folder's name {step}")
    step = stated.get("step", step)
    by_step = None if step is None or tokens_per_step is None else step * tokens_per_step
    tokens = stated.get("tokens_seen", by_step if tokens is None else tokens)
    return replace(checkpoint, step=step, tokens=tokens, tags=stated.get("tags", {}))


def _stated(path: Path) -> dict[str, Any]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}; write it again, or delete it") from error
    if not isinstance(content, dict):
        raise ModelError(f'{path} holds no object; expected {{"step": .., "tokens_seen": ..}}')
    stated = {name: content[name] for name in ("step", "tokens_seen", "tags") if content.get(name) is not None}
    for name in stated.keys() - {"tags"}:
        if type(stated[name]) is not int or stated[name] < 0:
            raise ModelError(f"{path} says {name} {stated[name]!r}; expected a whole number, 0 or more")
    tags = stated.get("tags", {})
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise ModelError(f"{path} says tags {str(tags)[:80]!r}; expected an object of names and texts")
    return stated


def check_folder(root: Path, folder: Path) -> None:
    """Make sure that a checkpoint can be read without leaving `root`, and lacks nothing.

    Raises:
        ModelError: a link leads out of `root`, or a file is missing; the message names folder and file.
    """
    inside = root.resolve()
    for path in (folder, *sorted(folder.rglob("*"))):
        if not path.resolve().is_relative_to(inside):
            raise ModelError(f"{path} is a link that leads out of {root}; copy what it leads to in its place")
    if not (folder / "config.json").is_file():
        raise ModelError(f"checkpoint {folder} lacks config.json; write it again, or leave it out of the list")
    shards = weight_files(folder) or ["model.safetensors"]
    lacking = next((name for name in shards if not (folder / name).is_file()), None)
    if lacking is not None:
        raise ModelError(f"checkpoint {folder} lacks {lacking}; write it again, or leave it out of the list")
    if name := lacking_tokenizer_file(folder):
        raise ModelError(f"checkpoint {folder} lacks {name}; save the tokenizer into it with save_pretrained")
