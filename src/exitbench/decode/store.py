"""The folder of decoded answers: begun once, resumed by the same command, read without the model."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from exitbench.decode.record import SCHEMA_VERSION, Batch, Manifest
from exitbench.errors import DecodeError, first_problem
from exitbench.files import write_json

__all__ = ["begin", "is_decode_folder", "read_batches", "read_manifest", "write_batch"]

_MANIFEST, _BATCHES = "decode.json", "batches.jsonl"


def is_decode_folder(folder: Path) -> bool:
    """Whether a folder holds decoded answers."""
    return (folder / _MANIFEST).is_file()


def begin(folder: Path, manifest: Manifest) -> None:
    """Begin a folder, or go on with one of the same identity.

    Raises:
        DecodeError: it holds other answers.
    """
    if not is_decode_folder(folder):
        if folder.is_dir() and any(folder.iterdir()):
            raise DecodeError(f"{folder} holds something else than decoded answers; choose another --out folder")
        write_json(folder / _MANIFEST, manifest.model_dump(mode="json"))
        return
    there, wanted = read_manifest(folder).identity(), manifest.identity()
    for name in wanted:
        if there[name] != wanted[name]:
            parts = (
                [key for key in wanted[name] if there[name].get(key) != wanted[name][key]]
                if isinstance(wanted[name], dict)
                else []
            )
            what = ", ".join([name, *parts[:3]])
            raise DecodeError(f"{folder} holds answers decoded otherwise ({what}); choose another --out folder")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder.

    Raises:
        DecodeError: there is none, or one that this version cannot read.
    """
    file = folder / _MANIFEST
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if record.get("schema_version") != SCHEMA_VERSION:
            raise DecodeError(
                f"{file} has schema version {record.get('schema_version')}, this exitbench reads {SCHEMA_VERSION}; "
                "decode again, or upgrade exitbench"
            )
        return Manifest.model_validate(record)
    except FileNotFoundError as error:
        raise DecodeError(f"{folder} holds no decoded answers; make some with 'exitbench decode --out DIR'") from error
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise DecodeError(f"{file} is no JSON object; decode again into another folder") from error
    except ValidationError as error:
        raise DecodeError(f"{file} is damaged: {first_problem(error, 'the file')}; decode again") from error


def read_batches(folder: Path) -> Iterator[Batch]:
    """All batches that are complete; a line that was cut off when a run was killed is not.

    Raises:
        DecodeError: a line that is no batch.
    """
    file = folder / _BATCHES
    if not file.is_file():
        return
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield Batch.model_validate_json(line)
            except ValidationError as error:
                raise DecodeError(
                    f"{file}, line {number} is damaged: {first_problem(error, 'the line')}; decode again"
                ) from error


def write_batch(folder: Path, batch: Batch) -> None:
    """Append a batch; what a killed run left of another is cut off first."""
    line = (batch.model_dump_json() + "\n").encode()
    with (folder / _BATCHES).open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
