"""Trace a model on a workload: answers or documents, one parallel pass each, all signals at every depth.

On answers, prompts are generated in fixed batches and every turn of a sample is then passed once through the model, on
its own, so that a row depends neither on what else was in a batch nor on where a run was interrupted. Rows are the
positions whose next token belongs to the model's answer, its end token included. On text, rows are all positions of a
document that have a next token. With `fast`, each row's decision is recorded and no signals.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from exitbench.config import Mode, TraceOptions
from exitbench.env import environment_report, library_versions
from exitbench.errors import OutOfMemoryError, WorkloadError
from exitbench.lens import Translators, translators_for
from exitbench.models.catalogue import facts_of
from exitbench.models.load import LoadedModel
from exitbench.models.placement import weights_wait_on
from exitbench.models.strict import quiet_transformers
from exitbench.progress import SILENT, Progressor
from exitbench.signals.native import why_not_native
from exitbench.trace.budget import in_halves
from exitbench.trace.generate import greedy_answers
from exitbench.trace.identity import model_identity, workload_identity
from exitbench.trace.lock import sole_writer
from exitbench.trace.manifest import Manifest, Order, Settings
from exitbench.trace.precision import Stopping
from exitbench.trace.prompts import conversation_ids, cut_into_documents, has_chat_template
from exitbench.trace.record import Recorder, SampleFailedError, Stretch
from exitbench.trace.store import TraceFolder, read_trace
from exitbench.trace.table import SampleInfo
from exitbench.workloads import Workload
from exitbench.workloads.workload import spread, stratified_order

__all__ = ["collect"]

Say = Callable[[str], None]


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
    mode: Mode = options.on or ("answers" if workload.kind == "prompts" else "text")
    order: Order = "workload" if stopping is None else "looks"
    kind = _Answers if mode == "answers" else _Documents
    run = kind(loaded, workload, options, order, progress.say)
    translators = translators_for(loaded, options.readout)
    looks = [len(run.samples)] if stopping is None else stopping.plan(len(run.samples))
    recorder = Recorder(
        loaded, translators, fast=options.fast, also=options.also, memory=options.memory_bytes, say=progress.say
    )
    with quiet_transformers(), sole_writer(out):
        folder = TraceFolder(out, _manifest(loaded, workload, translators, options, mode, order, command), run.samples)
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
    first: int, end: int, run: "_Run", recorder: Recorder, folder: TraceFolder, progress: Progressor
) -> None:
    """Trace whatever is missing of the samples from `first` to before `end`."""
    todo = [index for index in range(first, end) if not folder.is_done(index)]
    with progress.bar(f"Tracing {folder.manifest.model.name}", end) as advance:
        advance(end - len(todo))
        for index in todo:
            try:
                folder.write(index, recorder.rows(run.stretches(index, folder)))
            except (SampleFailedError, OutOfMemoryError) as failure:
                folder.write_failure(index, str(failure))
            advance(1)


def _places(samples: Sequence[SampleInfo], options: TraceOptions, order: Order) -> Sequence[int]:
    """Indices of the samples in the order in which they are traced."""
    if order == "workload":
        return range(len(samples))
    return stratified_order([sample.category for sample in samples], options.seed)


class _Documents:
    """Given text: one stretch a document."""

    def __init__(self, loaded: LoadedModel, workload: Workload, options: TraceOptions, order: Order, _: Say) -> None:
        length = min(options.document_tokens, loaded.context_length or options.document_tokens)
        samples, documents = cut_into_documents(loaded.tokenizer, workload, length)
        if options.limit is not None:
            chosen = spread([sample.category for sample in samples], options.limit)
            samples, documents = [samples[i] for i in chosen], [documents[i] for i in chosen]
        places = _places(samples, options, order)
        self.samples: Sequence[SampleInfo] = [samples[i] for i in places]
        self._documents = [documents[i] for i in places]

    def stretches(self, index: int, folder: TraceFolder) -> list[Stretch]:
        return [Stretch(ids=self._documents[index], first_row=0, turn=0)]


class _Answers:
    """The model's own answers: one stretch a turn, prompt and answer."""

    def __init__(self, loaded: LoadedModel, workload: Workload, options: TraceOptions, order: Order, say: Say) -> None:
        if workload.kind != "prompts":
            raise WorkloadError(
                f"workload {workload.name!r} is plain text and asks nothing, so nothing is answered; use --on text"
            )
        if options.limit is not None:
            workload = workload.limited(options.limit)
        self._loaded = loaded
        self._options = options
        self._say = say
        self._chat = options.chat_template and has_chat_template(loaded.tokenizer)
        self._batch_number = -1
        self._batch: list[list[list[int]]] = []
        samples = [
            SampleInfo(id=s.id, category=s.category, turns=s.turns, reference=s.reference) for s in workload.samples
        ]
        self.samples: Sequence[SampleInfo] = [samples[i] for i in _places(samples, options, order)]
        self._refuse_too_long()

    def stretches(self, index: int, folder: TraceFolder) -> list[Stretch]:
        """Prompt and answer of every turn of a sample, generating its batch's answers where they are not there yet."""
        size = _generation_batch(self._loaded, self._options)
        number, place = divmod(index, size)
        if number != self._batch_number:
            batch = self.samples[number * size : (number + 1) * size]
            stored = folder.read_answers(number, batch)
            self._batch = self._generate(batch) if stored is None else stored
            self._batch_number = number
            if stored is None:
                folder.write_answers(number, self._batch)
        answers = self._batch[place]
        if len(answers) < len(self.samples[index].turns):
            raise SampleFailedError(
                f"the prompt of turn {len(answers) + 1} and its answer are longer than the model's context of "
                f"{self._loaded.context_length} tokens"
            )
        stretches = []
        for turn, answer in enumerate(answers):
            prompt = self._prompt(self.samples[index], answers[:turn])
            stretches.append(Stretch(ids=prompt + answer, first_row=len(prompt) - 1, turn=turn))
        return stretches

    def _prompt(self, sample: SampleInfo, answers: Sequence[Sequence[int]]) -> list[int]:
        texts = [str(self._loaded.tokenizer.decode(list(a), skip_special_tokens=True)) for a in answers]
        turns = sample.turns[: len(answers) + 1]
        return conversation_ids(self._loaded.tokenizer, turns, texts, chat=self._chat)

    def _fits(self, prompt: Sequence[int]) -> bool:
        return self._loaded.has_room_for(len(prompt) + self._options.max_new_tokens)

    def _refuse_too_long(self) -> None:
        lengths = {s.id: len(ids) for s in self.samples if not self._fits(ids := self._prompt(s, []))}
        if lengths:
            worst, length = max(lengths.items(), key=lambda item: item[1])
            raise WorkloadError(
                f"{len(lengths)} prompts do not fit the context of {self._loaded.context_length} tokens with "
                f"{self._options.max_new_tokens} new ones, the longest is {worst!r} with {length}; "
                "shorten them, lower --max-new-tokens or take them out"
            )

    def _generate(self, batch: Sequence[SampleInfo]) -> list[list[list[int]]]:
        """Answers of one batch, per sample and turn; a conversation that outgrows the context stops early."""
        answers: list[list[list[int]]] = [[] for _ in batch]
        for turn in range(max(len(sample.turns) for sample in batch)):
            waiting = {
                i: self._prompt(sample, answers[i])
                for i, sample in enumerate(batch)
                if len(sample.turns) > turn and len(answers[i]) == turn
            }
            ready = {i: prompt for i, prompt in waiting.items() if self._fits(prompt)}
            if ready:
                for i, answer in zip(ready, in_halves(self._answers, list(ready.values()), self._say), strict=True):
                    answers[i].append(answer)
        return answers

    def _answers(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        return greedy_answers(self._loaded.model, prompts, self._options.max_new_tokens)


_Run = _Answers | _Documents


def _generation_batch(loaded: LoadedModel, options: TraceOptions) -> int:
    """Prompts answered together: one where padding would change the answers."""
    return options.generation_batch if loaded.can_pad else 1


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
    model, source, answers = loaded.model, loaded.source, mode == "answers"
    return Manifest(
        model=model_identity(loaded),
        shape=loaded.shape,
        facts=facts_of(source.hub_id, model.config.model_type, loaded.shape),
        workload=workload_identity(workload),
        settings=Settings(
            recorded="decisions" if options.fast else "signals",
            also=options.also,
            on=mode,
            readout="logit" if translators is None else translators.name,
            dtype=str(model.dtype).removeprefix("torch."),
            output_dtype=loaded.output_dtype,
            attention=model.config._attn_implementation,
            device=model.device.type,
            chat_template=answers and options.chat_template and has_chat_template(loaded.tokenizer),
            max_new_tokens=options.max_new_tokens if answers else None,
            document_tokens=None if answers else options.document_tokens,
            generation_batch=_generation_batch(loaded, options) if answers else None,
            limit=options.limit,
            seed=options.seed,
            order=order,
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
