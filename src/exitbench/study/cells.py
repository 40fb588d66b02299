"""From a spec to its cells: every model at every revision, on every workload, through every readout.

A cell has a name made of all that decides its numbers: which weights, prompts, settings, readout, measures, policies
and seed. So a cell that is there already is never measured again, and one whose weights, prompts or lens changed on
disk is another cell. Labels, tags and facts are no part of it.

Workloads and lenses are read, local weights are hashed, and the checkpoints of a hub repository are listed; no model is
fetched or loaded.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from exitbench.config import TUNED, Mode, TraceOptions
from exitbench.errors import ModelError, StudyError, UnknownNameError
from exitbench.lens import read_translators
from exitbench.models.cache import hash_config, hash_file, hash_weights
from exitbench.models.revisions import checkpoints_of
from exitbench.models.source import SHORT_NAMES, source_form
from exitbench.progress import SILENT, Progressor
from exitbench.study.spec import ModelEntry, StudySpec, WorkloadEntry
from exitbench.workloads import WORKLOADS, Workload, load_workload

__all__ = ["MAX_CELLS", "Cell", "StudiedModel", "StudiedWorkload", "plan"]

MAX_CELLS = 100_000
_ID_DIGITS = 16
_HUB_PREFIX = "hub:"
_OF_OTHER_MODE = {"text": ("max_new_tokens", "generation_batch", "chat_template"), "answers": ("document_tokens",)}
"""Mode -> settings that it does not know."""


@dataclass(frozen=True, kw_only=True)
class StudiedModel:
    """One model of a study at one revision."""

    entry: ModelEntry
    label: str
    source: str
    """As the spec writes it; for a checkpoint in a folder with its name behind it."""
    load_from: str
    """What `load` takes."""
    load_revision: str | None = None
    revision: str | None = None
    """As rows say it: of the hub as asked for, or the name of a checkpoint's folder."""
    weights_sha256: str | None = None
    """Of local weights, as `ModelSource` has it; None where a revision or a pin stands for them."""
    config_sha256: str | None = None
    hub_id: str | None = None
    """Under which the table of facts may list it."""
    step: int | None = None
    tokens_seen: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    """Of the checkpoint itself, and of the spec, which has the last word."""

    @property
    def name(self) -> str:
        """For people."""
        return self.label if self.revision is None else f"{self.label} at {self.revision}"

    @property
    def weights(self) -> tuple[str | None, ...]:
        """Which weights are meant."""
        return (self.source, self.load_revision, self.weights_sha256, self.config_sha256)


@dataclass(frozen=True, kw_only=True)
class StudiedWorkload:
    """A workload of a study with its settings, but for the readout."""

    workload: Workload
    on: Mode
    options: dict[str, Any]
    """Of `TraceOptions`."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What is measured at once."""

    id: str
    model: StudiedModel
    prompts: StudiedWorkload
    options: TraceOptions
    readout: str
    """As a trace names it."""

    @property
    def name(self) -> str:
        """For people."""
        readout = "" if self.readout == "logit" else f", {self.readout}"
        return f"{self.model.name} on {self.prompts.workload.name} ({self.prompts.on}{readout})"


def plan(spec: StudySpec, base: Path, *, progress: Progressor = SILENT) -> list[Cell]:
    """The cells of a study, those of one model next to each other.

    Args:
        spec: of the study.
        base: folder that paths in it are relative to.
        progress: where to show messages.

    Raises:
        StudyError: too many cells, or two that are the same.
        ExitbenchError: a model, workload, lens or policy that is not there.
    """
    models = [model for entry in spec.models for model in _models(entry, base)]
    num_cells = len(models) * len(spec.workloads) * len(spec.readouts)
    if num_cells > MAX_CELLS:
        raise StudyError(f"the study has {num_cells} cells, expected at most {MAX_CELLS}; split it")
    _refuse_same_names(models)
    policies = [_policy(entry.policy, entry.probes, base) for entry in spec.policies]
    workloads = [_workload(entry, spec, base) for entry in spec.workloads]
    readouts = [_readout(text, base) for text in spec.readouts]
    shared = {
        "loading": spec.settings.loading,
        "measure": sorted(set(spec.measure)),
        "policies": policies,
        "seed": spec.seed,
    }
    cells = []
    with progress.bar("Planning", len(models)) as advance:
        for model in map(_hashed, models):
            cells += [
                _cell(model, prompts, readout, shared | {"readout": name})
                for prompts in workloads
                for readout, name in readouts
            ]
            advance(1)
    first_of: dict[str, Cell] = {}
    for cell in cells:
        if (first := first_of.setdefault(_deciding(cell), cell)) is not cell:
            raise StudyError(f"two cells are the same, {first.name} and {cell.name}; leave out one of the two")
    return cells


def _deciding(cell: Cell) -> str:
    """What decides a cell's numbers among those of its study; a setting of the other mode does not."""
    options = _settings(cell.options, but=_OF_OTHER_MODE[cell.prompts.on])
    return json.dumps([cell.model.weights, cell.prompts.workload.sha256, cell.readout, options])


def _settings(options: TraceOptions, *, but: Sequence[str] = ()) -> dict[str, Any]:
    """Those that may decide a number; the readout, which a path stands for here, is told apart elsewhere."""
    return {name: value for name, value in asdict(options).items() if name not in ("memory", "readout", *but)}


def _cell(model: StudiedModel, prompts: StudiedWorkload, readout: str, shared: dict[str, Any]) -> Cell:
    options = TraceOptions(on=prompts.on, readout=readout, **prompts.options)
    identity = shared | {"model": model.weights, "workload": prompts.workload.sha256, "options": _settings(options)}
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:_ID_DIGITS]
    return Cell(id=digest, model=model, prompts=prompts, options=options, readout=shared["readout"])


def _models(entry: ModelEntry, base: Path) -> list[StudiedModel]:
    if entry.checkpoints is not None:
        return _checkpoints(entry, entry.checkpoints, base)
    assert entry.model is not None
    path = _beside(base, entry.model)
    if entry.model in SHORT_NAMES or path is None:
        form, load_from = _form_elsewhere(entry.model), entry.model
    else:
        form, load_from = source_form(str(path)), str(path)
    if entry.revision is not None and form != "hub":
        raise StudyError(f"revision {entry.revision!r} was given for {entry.model!r}, which is no hub id; leave it out")
    hub_id = SHORT_NAMES[entry.model].hub_id if form == "short name" else entry.model if form == "hub" else None
    return [
        StudiedModel(
            entry=entry,
            label=entry.label or _default_label(entry.model),
            source=entry.model,
            load_from=load_from,
            load_revision=entry.revision,
            revision=entry.revision,
            hub_id=hub_id,
            tags=entry.tags,
        )
    ]


def _checkpoints(entry: ModelEntry, where: str, base: Path) -> list[StudiedModel]:
    found = checkpoints_of(
        where,
        revisions=entry.revisions,
        count=entry.count,
        base_folder=base,
        pattern=entry.pattern,
        tokens_per_step=entry.tokens_per_step,
    )
    return [
        StudiedModel(
            entry=entry,
            label=entry.label or _default_label(where),
            source=f"{where.rstrip('/')}/{one.name}" if one.revision is None else one.source,
            load_from=one.source,
            load_revision=one.revision,
            revision=one.name,
            hub_id=one.final or (None if one.revision is None else one.source),
            step=one.step,
            tokens_seen=one.tokens,
            tags={**one.tags, **entry.tags},
        )
        for one in found
    ]


def _form_elsewhere(source: str) -> str:
    """The form of a source that is no path beside the spec.

    Raises:
        ModelError: it looks like a path, or like nothing.
    """
    if source.startswith(("/", ".", "~")) or (form := source_form(source)) in ("folder", "file"):
        raise ModelError(f"there is no model {source!r}; a path in a spec is relative to the spec's own folder")
    return form


def _beside(base: Path, text: str) -> Path | None:
    """The path that a text is, relative to the folder of the spec; None if nothing is there."""
    path = base / Path(text).expanduser()
    try:
        return path if path.exists() else None
    except OSError:  # a name too long for the file system
        return None


def _default_label(source: str) -> str:
    """The last part of a hub id or path."""
    name = Path(source.rstrip("/")).name.removesuffix(".gguf")
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", name).lstrip("._+-")[:100] or "model"


def _hashed(model: StudiedModel) -> StudiedModel:
    """The same with the hashes of its weights, where they lie on this machine under no pin."""
    path = Path(model.load_from)
    if model.load_from in SHORT_NAMES or not path.exists():
        return model
    weights = hash_file(path) if path.is_file() else hash_weights(path)
    config = None if path.is_file() else hash_config(path)
    return replace(model, weights_sha256=weights, config_sha256=config)


def _workload(entry: WorkloadEntry, spec: StudySpec, base: Path) -> StudiedWorkload:
    path = _beside(base, entry.workload)
    if entry.workload.startswith(_HUB_PREFIX) or entry.workload in WORKLOADS:
        workload = load_workload(entry.workload)
    elif path is not None:
        workload = load_workload(str(path))
    else:
        try:
            WORKLOADS.get(entry.workload)
        except UnknownNameError as error:
            raise UnknownNameError(f"{error}; nor is there such a file in the folder of the spec") from error
    names = ("limit", "document_tokens", "max_new_tokens", "chat_template")
    own = {name: value for name in names if (value := getattr(entry, name)) is not None}
    options = {name: getattr(spec.settings, name) for name in (*names, "memory")} | {"seed": spec.seed} | own
    on = entry.on or spec.settings.on or ("answers" if workload.kind == "prompts" else "text")
    if on == "answers" and workload.kind == "text":
        raise StudyError(f"workload {workload.name!r} is plain text and asks nothing; give it with 'on: text'")
    return StudiedWorkload(workload=workload, on=on, options=options)


def _readout(text: str, base: Path) -> tuple[str, str]:
    """A readout as `TraceOptions` takes it, and as a trace names it."""
    if not text.startswith(TUNED):
        return text, text
    path = base / Path(text.removeprefix(TUNED)).expanduser()
    return f"{TUNED}{path}", read_translators(path).name


def _policy(name: str, probes: Sequence[str], base: Path) -> tuple[str, Sequence[str]]:
    """What tells two policies apart."""
    if not name.endswith(".json"):
        return name, probes
    path = _beside(base, name)
    if path is None:
        raise StudyError(f"there is no policy file {name} in the folder of the spec")
    return f"{path.name} {hash_file(path)}", probes


def _refuse_same_names(models: Sequence[StudiedModel]) -> None:
    (name, count) = Counter(model.name for model in models).most_common(1)[0]
    if count > 1:
        raise StudyError(f"{count} models are called {name}; give them a label each")
