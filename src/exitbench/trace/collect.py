"""Trace a model on a workload: answers or documents, one parallel pass each, all signals at every depth.

On answers, prompts are generated in fixed batches and every turn of a sample is then passed once through the model, on
its own, so that a row depends neither on what else was in a batch nor on where a run was interrupted. Rows are the
positions whose next token belongs to the model's answer, its end token included. On text, rows are all positions of a
document that have a next token. With `fast`, each row's decision is recorded and no signals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from exitbench.config import Mode, TraceOptions
from exitbench.env import environment_report, library_versions
from exitbench.errors import WorkloadError
from exitbench.models.catalogue import facts_of
from exitbench.models.load import LoadedModel
from exitbench.models.placement import weights_wait_on
from exitbench.models.strict import quiet_transformers
from exitbench.progress import SILENT, Progressor
from exitbench.signals import compute_signals
from exitbench.signals.decision import Decisions
from exitbench.signals.lazy import LazyDecisions
from exitbench.trace.decision import decision_depths
from exitbench.trace.generate import greedy_answers
from exitbench.trace.lock import sole_writer
from exitbench.trace.manifest import Manifest, ModelIdentity, Order, Settings, WorkloadIdentity
from exitbench.trace.parts import Rows
from exitbench.trace.precision import Stopping
from exitbench.trace.prompts import conversation_ids, cut_into_documents, has_chat_template
from exitbench.trace.store import TraceFolder, read_trace
from exitbench.trace.table import SampleInfo
from exitbench.workloads import Workload
from exitbench.workloads.workload import spread, stratified_order

__all__ = ["collect"]


class _SampleFailedError(Exception):
    """A sample that gives no rows; recorded, and the run goes on."""


@dataclass(frozen=True, kw_only=True)
class _Stretch:
    """One sequence to pass through the model and the tokens of it that count."""

    ids: list[int]
    first_row: int
    """Position of the first counted token; counted are all from here to the last but one."""
    turn: int


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
        WorkloadError: the workload does not fit the mode or the model's context.
        TraceError: `stopping` has too few samples, `out` holds something else or a part that cannot be read, or another
            run is writing there.
    """
    mode: Mode = options.on or ("answers" if workload.kind == "prompts" else "text")
    order: Order = "workload" if stopping is None else "looks"
    kind = _Answers if mode == "answers" else _Documents
    run = kind(loaded, workload, options, order)
    looks = [len(run.samples)] if stopping is None else stopping.plan(len(run.samples))
    with quiet_transformers(), sole_writer(out):
        folder = TraceFolder(out, _manifest(loaded, workload, options, mode, order, command), run.samples)
        precision = None
        for end in looks:
            _trace_up_to(end, loaded, run, folder, progress, fast=options.fast)
            if stopping is not None:
                precision = stopping.look(read_trace(out, first=end))
                progress.say(precision.text())
                if precision.finished:
                    break
        folder.write_token_strings(_token_strings(loaded, folder.token_ids()))
        if precision is not None:
            folder.write_precision(precision)


def _trace_up_to(
    end: int, loaded: LoadedModel, run: "_Run", folder: TraceFolder, progress: Progressor, *, fast: bool
) -> None:
    """Trace whatever is missing of the first `end` samples."""
    todo = [index for index in range(end) if not folder.is_done(index)]
    with progress.bar(f"Tracing {loaded.source.name}", end) as advance:
        advance(end - len(todo))
        for index in todo:
            try:
                folder.write(index, _trace_sample(loaded, run.stretches(index, folder), fast=fast))
            except _SampleFailedError as failure:
                folder.write_failure(index, str(failure))
            advance(1)


def _places(samples: Sequence[SampleInfo], options: TraceOptions, order: Order) -> Sequence[int]:
    """Indices of the samples in the order in which they are traced."""
    if order == "workload":
        return range(len(samples))
    return stratified_order([sample.category for sample in samples], options.seed)


class _Documents:
    """Given text: one stretch a document."""

    def __init__(self, loaded: LoadedModel, workload: Workload, options: TraceOptions, order: Order) -> None:
        length = min(options.document_tokens, loaded.context_length or options.document_tokens)
        samples, documents = cut_into_documents(loaded.tokenizer, workload, length)
        if options.limit is not None:
            chosen = spread([sample.category for sample in samples], options.limit)
            samples, documents = [samples[i] for i in chosen], [documents[i] for i in chosen]
        places = _places(samples, options, order)
        self.samples: Sequence[SampleInfo] = [samples[i] for i in places]
        self._documents = [documents[i] for i in places]

    def stretches(self, index: int, folder: TraceFolder) -> list[_Stretch]:
        return [_Stretch(ids=self._documents[index], first_row=0, turn=0)]


class _Answers:
    """The model's own answers: one stretch a turn, prompt and answer."""

    def __init__(self, loaded: LoadedModel, workload: Workload, options: TraceOptions, order: Order) -> None:
        if workload.kind != "prompts":
            raise WorkloadError(
                f"workload {workload.name!r} is plain text and asks nothing, so nothing is answered; use --on text"
            )
        if options.limit is not None:
            workload = workload.limited(options.limit)
        self._loaded = loaded
        self._options = options
        self._chat = options.chat_template and has_chat_template(loaded.tokenizer)
        self._batch_number = -1
        self._batch: list[list[list[int]]] = []
        samples = [
            SampleInfo(id=s.id, category=s.category, turns=s.turns, reference=s.reference) for s in workload.samples
        ]
        self.samples: Sequence[SampleInfo] = [samples[i] for i in _places(samples, options, order)]
        self._refuse_too_long()

    def stretches(self, index: int, folder: TraceFolder) -> list[_Stretch]:
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
            raise _SampleFailedError(
                f"the prompt of turn {len(answers) + 1} and its answer are longer than the model's context of "
                f"{self._loaded.context_length} tokens"
            )
        stretches = []
        for turn, answer in enumerate(answers):
            prompt = self._prompt(self.samples[index], answers[:turn])
            stretches.append(_Stretch(ids=prompt + answer, first_row=len(prompt) - 1, turn=turn))
        return stretches

    def _prompt(self, sample: SampleInfo, answers: Sequence[Sequence[int]]) -> list[int]:
        texts = [str(self._loaded.tokenizer.decode(list(a), skip_special_tokens=True)) for a in answers]
        turns = sample.turns[: len(answers) + 1]
        return conversation_ids(self._loaded.tokenizer, turns, texts, chat=self._chat)

    def _fits(self, prompt: Sequence[int]) -> bool:
        context = self._loaded.context_length
        return context is None or len(prompt) + self._options.max_new_tokens <= context

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
                new = greedy_answers(self._loaded.model, list(ready.values()), self._options.max_new_tokens)
                for i, answer in zip(ready, new, strict=True):
                    answers[i].append(answer)
        return answers


_Run = _Answers | _Documents


def _generation_batch(loaded: LoadedModel, options: TraceOptions) -> int:
    """Prompts answered together: one where padding would change the answers."""
    return options.generation_batch if loaded.can_pad else 1


def _trace_sample(loaded: LoadedModel, stretches: Sequence[_Stretch], *, fast: bool) -> Rows:
    """All rows of one sample, turn after turn."""
    parts = [_trace_stretch(loaded, stretch, fast=fast) for stretch in stretches]
    return Rows(
        turn=np.concatenate([p.turn for p in parts]),
        position=np.concatenate([p.position for p in parts]),
        input_id=np.concatenate([p.input_id for p in parts]),
        target_id=np.concatenate([p.target_id for p in parts]),
        final_id=np.concatenate([p.final_id for p in parts]),
        decision_depth=np.concatenate([p.decision_depth for p in parts]),
        signals={name: np.concatenate([p.signals[name] for p in parts]) for name in parts[0].signals},
    )


def _trace_stretch(loaded: LoadedModel, stretch: _Stretch, *, fast: bool) -> Rows:
    adapter = loaded.adapter
    ids = torch.tensor(stretch.ids, device=adapter.model.device)
    rows = slice(stretch.first_row, len(stretch.ids) - 1)
    hidden_LRD = adapter.capture(ids[None], rows)
    target = ids[rows.start + 1 :].to(hidden_LRD.device)
    if fast:
        decided, signals = LazyDecisions(loaded.readout)(hidden_LRD), {}
        if decided.not_finite:
            raise _SampleFailedError(
                f"logits are not finite, turn {stretch.turn + 1}; trace without --fast to see where"
            )
    else:
        signals = compute_signals(hidden_LRD, target, loaded.readout)
        _refuse_not_finite(signals, stretch)
        top1_id = signals["top1_id"].astype(np.int32)
        decided = Decisions(final_id=top1_id[:, -1], decision_depth=decision_depths(top1_id), not_finite=0)
    position = np.arange(rows.start, rows.stop, dtype=np.int32)
    return Rows(
        turn=np.full(len(position), stretch.turn, np.int16),
        position=position,
        input_id=ids[rows].cpu().numpy().astype(np.int32),
        target_id=target.cpu().numpy().astype(np.int32),
        final_id=decided.final_id,
        decision_depth=decided.decision_depth,
        signals=signals,
    )


def _refuse_not_finite(signals: Mapping[str, NDArray[np.generic]], stretch: _Stretch) -> None:
    finite = np.isfinite(signals["top1_prob"]) & np.isfinite(signals["entropy"])
    if not finite.all():
        row, depth = np.argwhere(~finite)[0]
        raise _SampleFailedError(
            f"logits are not finite at depth {depth}, position {stretch.first_row + row}, turn {stretch.turn + 1} "
            f"({(~finite).any(-1).sum()} of {len(finite)} tokens affected)"
        )


def _manifest(
    loaded: LoadedModel, workload: Workload, options: TraceOptions, mode: Mode, order: Order, command: str
) -> Manifest:
    model, source, answers = loaded.model, loaded.source, mode == "answers"
    return Manifest(
        model=ModelIdentity(
            source=source.spec,
            name=source.name,
            model_type=model.config.model_type,
            revision=source.revision,
            weights_sha256=source.weights_sha256,
            config_sha256=source.config_sha256,
            quantisation=source.quantisation,
            licence=source.licence,
        ),
        shape=loaded.shape,
        facts=facts_of(source.hub_id, model.config.model_type, loaded.shape),
        workload=WorkloadIdentity(
            name=workload.name,
            version=workload.version,
            sha256=workload.sha256,
            num_samples=len(workload.samples),
            categories=workload.categories,
        ),
        settings=Settings(
            recorded="decisions" if options.fast else "signals",
            on=mode,
            readout="logit",
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
        environment=environment_report() | {"weights_on": weights_wait_on(model)},
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
