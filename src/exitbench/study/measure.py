"""One cell: trace, score, replay, and whatever else the spec measures, as rows.

The trace goes on where an earlier run left it. Scratch that is damaged or of something else (that run had other
libraries, or the model lay elsewhere) is of no use and is dropped.
"""

import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from exitbench.env import library_versions, versions_text
from exitbench.errors import CorruptTraceError, OtherTraceError
from exitbench.models.cache import hash_file
from exitbench.models.catalogue import ModelFacts, catalogue, facts_of
from exitbench.models.load import LoadedModel
from exitbench.policies import ExitPolicy
from exitbench.policies.confidence import TopProbability
from exitbench.progress import SILENT, Progressor
from exitbench.replay.assemble import ReplayOptions, policies_named, replay, why_no_replay
from exitbench.representation.measure import represent
from exitbench.score import score
from exitbench.study.cells import Cell
from exitbench.study.factors import Observed, words_of
from exitbench.study.figures import (
    Found,
    card_figures,
    no_policy_figures,
    replay_figures,
    representation_figures,
    untrained_figures,
)
from exitbench.study.rows import Row
from exitbench.study.spec import StudySpec
from exitbench.study.untrained import Nulls
from exitbench.trace.collect import collect
from exitbench.trace.sequences import stretches_of
from exitbench.trace.store import read_trace
from exitbench.trace.table import Trace

__all__ = ["failed_rows", "has_tied_head", "measure", "observed_of"]


def measure(
    loaded: LoadedModel,
    cell: Cell,
    spec: StudySpec,
    *,
    base: Path,
    trace_folder: Path,
    observed: Observed,
    nulls: Nulls,
    command: str,
    progress: Progressor = SILENT,
) -> list[Row]:
    """Measure a cell.

    Args:
        loaded: its model.
        cell: of the study.
        spec: of the study.
        base: folder that paths in the spec are relative to.
        trace_folder: where its trace is written, or goes on.
        observed: of its model.
        nulls: untrained nulls of the study so far.
        command: recorded in rows.
        progress: where to show bars.

    Raises:
        ExitbenchError: what is asked for cannot be measured on this model.
    """
    once = partial(_measured, loaded, cell, spec, base, trace_folder, nulls, command, progress)
    try:
        trace, found = once()
    except (CorruptTraceError, OtherTraceError):
        shutil.rmtree(trace_folder)
        trace, found = once()
    identity = _identity(cell, spec, observed, command) | _as_traced(trace)
    return [Row(**identity, status=figure.status, **vars(figure)) for figure in found]


def _measured(
    loaded: LoadedModel,
    cell: Cell,
    spec: StudySpec,
    base: Path,
    trace_folder: Path,
    nulls: Nulls,
    command: str,
    progress: Progressor,
) -> tuple[Trace, list[Found]]:
    """A cell's trace, and what was found with it."""
    workload = cell.prompts.workload
    collect(loaded, workload, trace_folder, options=cell.options, command=command, progress=progress)
    trace = read_trace(trace_folder)
    found: list[Found] = []
    if "score" in spec.measure:
        found += card_figures(score(trace, seed=spec.seed))
    if spec.policies:
        found += _replayed(trace, spec, base, progress)
    again = {"representation", "untrained"}.intersection(spec.measure)
    stretches = list(stretches_of(loaded, workload, cell.options, trace_folder)) if again else []
    if "representation" in spec.measure:
        found += representation_figures(represent(loaded, stretches, seed=spec.seed, progress=progress))
    if "untrained" in spec.measure:
        memory = cell.options.memory_bytes
        found += untrained_figures(nulls.of(loaded, stretches, seed=spec.seed, memory=memory, progress=progress))
    return trace, found


def failed_rows(cell: Cell, spec: StudySpec, reason: str, observed: Observed, *, command: str) -> list[Row]:
    """The one row of a cell that could not be measured."""
    identity = _identity(cell, spec, observed, command)
    return [Row(**identity, status="failed", figure="cell", reason=reason)]


def observed_of(cell: Cell, loaded: LoadedModel | None) -> Observed:
    """What is known of a cell's model: what the table lists, and the rest as counted on its weights, if loaded."""
    listed = catalogue().find(cell.model.hub_id)
    if loaded is None:
        return Observed(facts=listed or ModelFacts())
    counted = facts_of(None, loaded.model.config.model_type, loaded.shape)
    if listed is not None:
        gaps = {name: value for name, value in counted if getattr(listed, name) is None and name != "origin"}
        counted = listed.model_copy(update=gaps)
    commit = loaded.source.revision if loaded.source.kind == "hub" else None
    return Observed(facts=counted, tied_head=has_tied_head(loaded.model), commit=commit)


def has_tied_head(model: PreTrainedModel) -> bool | None:
    """Whether the head's matrix is the embedding's; None where the model does not show both."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    head_weight, weight = getattr(head, "weight", None), getattr(embedding, "weight", None)
    if head_weight is None or weight is None:
        return None
    return head_weight is weight or 0 != head_weight.data_ptr() == weight.data_ptr()


def _replayed(trace: Trace, spec: StudySpec, base: Path, progress: Progressor) -> Iterator[Found]:
    policies, variants = zip(*_policies(trace, spec, base), strict=True)
    if why := why_no_replay(trace):
        return no_policy_figures(why, variants)
    return replay_figures(replay(trace, policies, options=ReplayOptions(seed=spec.seed), progress=progress), variants)


def _policies(trace: Trace, spec: StudySpec, base: Path) -> list[tuple[ExitPolicy, str | None]]:
    """What is replayed, and the variant of its rows: class and probes, and which file, by its contents if need be.

    The plain threshold, which a replay has in any case, has no variant unless the spec names it.
    """
    files = {entry.policy for entry in spec.policies if entry.policy.endswith(".json")}
    names = Counter(Path(file).name for file in files)
    found: list[tuple[ExitPolicy, str | None]] = []
    for entry in spec.policies:
        name, words = entry.policy, []
        if name in files:
            path = base / Path(name).expanduser()
            name, words = str(path), [path.name] + [hash_file(path)[:8]] * (names[path.name] > 1)
        for policy in policies_named(trace, [name], probes=entry.probes):
            if all(policy != other for other, _ in found):
                found.append((policy, " ".join((policy.name, policy.schedule.text, *words))))
    if all(policy != TopProbability() for policy, _ in found):
        found.insert(0, (TopProbability(), None))
    return found


def _identity(cell: Cell, spec: StudySpec, observed: Observed, command: str) -> dict[str, Any]:
    """Columns of rows that say which cell they are of, as far as that is known without a trace."""
    model, options = cell.model, cell.options
    on_text = cell.prompts.on == "text"
    return words_of(cell, spec.name, observed) | {
        "cell": cell.id,
        "source": model.source,
        "revision": model.revision,
        "weights_sha256": model.weights_sha256,
        "config_sha256": model.config_sha256,
        "workload_sha256": cell.prompts.workload.sha256,
        "on": cell.prompts.on,
        "readout": cell.readout,
        "max_new_tokens": None if on_text else options.max_new_tokens,
        "document_tokens": options.document_tokens if on_text else None,
        "limit": options.limit,
        "seed": spec.seed,
        "libraries": versions_text(library_versions()),
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _as_traced(trace: Trace) -> dict[str, Any]:
    """The same as the trace has it."""
    model, settings = trace.manifest.model, trace.manifest.settings
    return {
        "weights_sha256": model.weights_sha256,
        "config_sha256": model.config_sha256,
        "readout": settings.readout,
        "dtype": settings.dtype,
        "attention": settings.attention,
        "device": settings.device,
        "chat_template": settings.chat_template,
        "libraries": versions_text(trace.manifest.libraries),
    }
