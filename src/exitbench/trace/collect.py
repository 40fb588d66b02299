"""Trace a model on a workload: answers or documents, one parallel pass each, all signals at every depth.

On answers, prompts are generated in fixed batches and every turn of a sample is then passed once through the model, on
its own, so that a row depends neither on what else was in a batch nor on where a run was interrupted. Rows are the
positions whose next token belongs to the model's answer, its end token included. On text, rows are all positions of a
document that have a next token. With `fast`, each row's decision is recorded and no signals.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from exitbench.config import Mode, TraceOptions
from exitbench.env import environment_report, library_versions
from exitbench.errors import OutOfMemoryError
from exitbench.lens import Translators, translators_for
from exitbench.models.catalogue import facts_of
from exitbench.models.load import LoadedModel
from exitbench.models.placement import weights_wait_on
from exitbench.models.strict import quiet_transformers
from exitbench.progress import SILENT, Progressor
from exitbench.signals.native import why_not_native
from exitbench.trace.identity import model_identity, workload_identity
from exitbench.trace.lock import sole_writer
from exitbench.trace.manifest import Manifest, Order, Settings
from exitbench.trace.precision import Stopping
from exitbench.trace.record import Recorder, SampleFailedError
from exitbench.trace.sequences import BatchAnswers, Sequences, sequences_of, settings_of
from exitbench.trace.store import TraceFolder, read_trace
from exitbench.trace.table import SampleInfo
from exitbench.workloads import Workload

__all__ = ["collect"]


def collect(
    loaded: LoadedModel,
    workload: Workload,
    out: Path,
    *,
    options: TraceOptions,
    stopping: Stopping | None = None,
    command: str = "",
    progress: Progressor = SILENT,
) -> None:
    """Trace `loaded` on `workload` into the folder `out`, resuming what is already there.

    Args:
        loaded: a validated model.
        workload: prompts or texts.
        out: trace folder.
        options: how.
        stopping: when to stop before the last sample, if at all.
        command: recorded in the manifest.
        progress: where to show bars.

    Raises:
        UnknownNameError: `options.also` names no signal.
        WorkloadError: the workload does not fit the mode or the model's context.
        LensError: the lens of the readout cannot be read, or belongs to another model.
        TraceError: `stopping` has too few samples, `out` holds something else or a part that cannot be read, or another
            run is writing there.
    """
    order: Order = "workload" if stopping is None else "looks"
    run = sequences_of(loaded, workload, options, order, progress.say)
    translators = translators_for(loaded, options.readout)
    looks = [len(run.samples)] if stopping is None else stopping.plan(len(run.samples))
    recorder = Recorder(
        loaded, translators, fast=options.fast, also=options.also, memory=options.memory_bytes, say=progress.say
    )
    with quiet_transformers(), sole_writer(out):
        folder = TraceFolder(
            out, _manifest(loaded, workload, translators, options, run.mode, order, command), run.samples
        )
        missing = why_not_native(loaded.readout.dtype) if loaded.model.device.type == "cpu" else None
        if missing:
            progress.say(f"logits are reduced by torch, several times slower than by compiled code: {missing}")
        precision, tried = None, 0
        for end in looks:
            _trace_between(tried, end, run, recorder, folder, progress)
            tried = end
            if stopping is not None:
                precision = stopping.look(read_trace(out, first=end))
                progress.say(precision.text())
                if precision.finished:
                    break
        folder.write_token_strings(_token_strings(loaded, folder.token_ids()))
        if precision is not None:
            folder.write_precision(precision)


def _trace_between(
    first: int, end: int, run: Sequences, recorder: Recorder, folder: TraceFolder, progress: Progressor
) -> None:
    """Trace whatever is missing of the samples from `first` to before `end`."""
    recall = partial(_recalled, folder)
    todo = [index for index in range(first, end) if not folder.is_done(index)]
    with progress.bar(f"Tracing {folder.manifest.model.name}", end) as advance:
        advance(end - len(todo))
        for index in todo:
            try:
                folder.write(index, recorder.rows(run.stretches(index, recall)))
            except (SampleFailedError, OutOfMemoryError) as failure:
                folder.write_failure(index, str(failure))
            advance(1)


def _recalled(
    folder: TraceFolder, number: int, batch: Sequence[SampleInfo], generate: Callable[[], BatchAnswers]
) -> BatchAnswers:
    """The answers of a batch that an earlier run left, or new ones, which are stored."""
    answers = folder.read_answers(number, batch)
    if answers is None:
        answers = generate()
        folder.write_answers(number, answers)
    return answers


def _reductions(loaded: LoadedModel) -> str:
    """Whose code reduces logits: their last digits differ."""
    if loaded.model.device.type != "cpu":
        return loaded.model.device.type
    return "torch" if why_not_native(loaded.readout.dtype) else "compiled"


def _manifest(
    loaded: LoadedModel,
    workload: Workload,
    translators: Translators | None,
    options: TraceOptions,
    mode: Mode,
    order: Order,
    command: str,
) -> Manifest:
    model, source = loaded.model, loaded.source
    return Manifest(
        model=model_identity(loaded),
        shape=loaded.shape,
        facts=facts_of(source.hub_id, model.config.model_type, loaded.shape),
        workload=workload_identity(workload),
        settings=Settings(
            recorded="decisions" if options.fast else "signals",
            also=options.also,
            readout="logit" if translators is None else translators.name,
            dtype=str(model.dtype).removeprefix("torch."),
            output_dtype=loaded.output_dtype,
            attention=model.config._attn_implementation,
            device=model.device.type,
            **settings_of(loaded, options, mode, order),
        ),
        libraries=library_versions(),
        environment=environment_report()
        | {
            "weights_on": weights_wait_on(model),
            "reductions": _reductions(loaded),
            "lens": None if translators is None else translators.origin.model_dump(mode="json"),
        },
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _token_strings(loaded: LoadedModel, ids: Sequence[int]) -> dict[int, str]:
    """Text of single tokens, with the leading space that sentence-piece decoders drop."""
    texts = {}
    for token in ids:
        text = str(loaded.tokenizer.decode([token]))
        piece = loaded.tokenizer.convert_ids_to_tokens(token)
        spaced = isinstance(piece, str) and piece.startswith("\u2581") and not text.startswith(" ")
        texts[token] = " " + text if spaced else text
    return texts
