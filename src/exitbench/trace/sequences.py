"""The sequences behind a trace: which tokens a model reads, and which of them count.

On text they are the documents. On answers they are every turn's prompt with the model's own answer, which is generated
in fixed batches when first asked for. Whoever measures something else of the same tokens gets them from the finished
trace, with `stretches_of`, without anything being generated again.

Non-goals: passing them through the model (see `record`), and storing anything.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from exitbench.config import Mode, TraceOptions
from exitbench.errors import CorruptTraceError, TraceError, WorkloadError
from exitbench.models.load import LoadedModel
from exitbench.trace.budget import in_halves
from exitbench.trace.generate import greedy_answers
from exitbench.trace.identity import model_identity, workload_identity
from exitbench.trace.manifest import Order
from exitbench.trace.prompts import conversation_ids, cut_into_documents, has_chat_template
from exitbench.trace.record import SampleFailedError, Stretch
from exitbench.trace.store import read_answers, read_trace
from exitbench.trace.table import SampleInfo
from exitbench.workloads import Workload
from exitbench.workloads.workload import spread, stratified_order

__all__ = ["BatchAnswers", "Recall", "Sequences", "sequences_of", "settings_of", "stretches_of"]

BatchAnswers = list[list[list[int]]]
"""Token ids of a batch's answers, per sample and turn."""
Recall = Callable[[int, Sequence[SampleInfo], Callable[[], BatchAnswers]], BatchAnswers]
"""Answers of a batch, by its number and samples, and a function that generates them where there are none yet."""
Say = Callable[[str], None]


def sequences_of(loaded: LoadedModel, workload: Workload, options: TraceOptions, order: Order, say: Say) -> "Sequences":
    """Make sequences of a workload, in the order in which they are traced.

    Args:
        loaded: a validated model.
        workload: prompts or texts.
        options: of the trace.
        order: of the samples.
        say: told when memory runs out while answers are generated.

    Raises:
        WorkloadError: the workload does not fit the mode or the model's context.
    """
    mode: Mode = options.on or ("answers" if workload.kind == "prompts" else "text")
    return (_Answers if mode == "answers" else _Documents)(loaded, workload, options, order, say)


def stretches_of(loaded: LoadedModel, workload: Workload, options: TraceOptions, folder: Path) -> Iterator[Stretch]:
    """Return the sequences behind a finished trace: of every sample that has rows, in the order of the rows.

    Args:
        loaded: the model that was traced.
        workload: what it was traced on.
        options: how.
        folder: the trace.

    Raises:
        TraceError: no finished trace there, one of something else, or one that lacks the answers it was made from.
    """
    trace = read_trace(folder)
    order = trace.manifest.settings.order
    sequences = sequences_of(loaded, workload, options, order, lambda _: None)
    there, here = trace.manifest, settings_of(loaded, options, sequences.mode, order)
    different = [name for name, value in here.items() if getattr(there.settings, name) != value]
    different += ["model"] * (there.model != model_identity(loaded))
    different += ["workload"] * (there.workload != workload_identity(workload))
    if different:
        raise TraceError(
            f"{folder} holds the trace of another {', '.join(different)}; "
            "give the model, workload and options that it was made with"
        )
    indices: list[int] = sorted(set(trace.sample_index.tolist()))
    recall = partial(_stored, folder)
    return (stretch for index in indices for stretch in sequences.stretches(index, recall))


def settings_of(loaded: LoadedModel, options: TraceOptions, mode: Mode, order: Order) -> dict[str, Any]:
    """The settings of a trace that decide its sequences, by their names in a manifest."""
    answers = mode == "answers"
    return {
        "on": mode,
        "chat_template": answers and options.chat_template and has_chat_template(loaded.tokenizer),
        "max_new_tokens": options.max_new_tokens if answers else None,
        "document_tokens": None if answers else options.document_tokens,
        "generation_batch": _generation_batch(loaded, options) if answers else None,
        "limit": options.limit,
        "seed": options.seed,
        "order": order,
    }


def _stored(folder: Path, number: int, batch: Sequence[SampleInfo], _: Callable[[], BatchAnswers]) -> BatchAnswers:
    answers = read_answers(folder, number, batch)
    if answers is None:
        raise CorruptTraceError(f"{folder} lacks the answers of batch {number} that it was made from; trace again")
    return answers


def _places(samples: Sequence[SampleInfo], options: TraceOptions, order: Order) -> Sequence[int]:
    """Indices of the samples in the order in which they are traced."""
    if order == "workload":
        return range(len(samples))
    return stratified_order([sample.category for sample in samples], options.seed)


class _Documents:
    """Given text: one stretch a document."""

    mode: Mode = "text"

    def __init__(self, loaded: LoadedModel, workload: Workload, options: TraceOptions, order: Order, _: Say) -> None:
        length = min(options.document_tokens, loaded.context_length or options.document_tokens)
        samples, documents = cut_into_documents(loaded.tokenizer, workload, length)
        if options.limit is not None:
            chosen = spread([sample.category for sample in samples], options.limit)
            samples, documents = [samples[i] for i in chosen], [documents[i] for i in chosen]
        places = _places(samples, options, order)
        self.samples: Sequence[SampleInfo] = [samples[i] for i in places]
        self._documents = [documents[i] for i in places]

    def stretches(self, index: int, _: Recall) -> list[Stretch]:
        category = self.samples[index].category
        return [Stretch(ids=self._documents[index], first_row=0, turn=0, sample=index, category=category)]


class _Answers:
    """The model's own answers: one stretch a turn, prompt and answer."""

    mode: Mode = "answers"

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
        self._batch: BatchAnswers = []
        samples = [
            SampleInfo(id=s.id, category=s.category, turns=s.turns, reference=s.reference) for s in workload.samples
        ]
        self.samples: Sequence[SampleInfo] = [samples[i] for i in _places(samples, options, order)]
        self._refuse_too_long()

    def stretches(self, index: int, recall: Recall) -> list[Stretch]:
        """Prompt and answer of every turn of a sample, generating its batch's answers where they are not there yet."""
        size = _generation_batch(self._loaded, self._options)
        number, place = divmod(index, size)
        if number != self._batch_number:
            batch = self.samples[number * size : (number + 1) * size]
            self._batch = recall(number, batch, partial(self._generate, batch))
            self._batch_number = number
        answers, sample = self._batch[place], self.samples[index]
        if len(answers) < len(sample.turns):
            raise SampleFailedError(
                f"the prompt of turn {len(answers) + 1} and its answer are longer than the model's context of "
                f"{self._loaded.context_length} tokens"
            )
        stretches = []
        for turn, answer in enumerate(answers):
            prompt = self._prompt(sample, answers[:turn])
            first = len(prompt) - 1
            stretches.append(
                Stretch(ids=prompt + answer, first_row=first, turn=turn, sample=index, category=sample.category)
            )
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

    def _generate(self, batch: Sequence[SampleInfo]) -> BatchAnswers:
        """Answers of one batch, per sample and turn; a conversation that outgrows the context stops early."""
        answers: BatchAnswers = [[] for _ in batch]
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


Sequences = _Answers | _Documents
"""Samples of a trace in their order, with a `mode`, and the stretches of each."""


def _generation_batch(loaded: LoadedModel, options: TraceOptions) -> int:
    """Prompts answered together: one where padding would change the answers."""
    return options.generation_batch if loaded.can_pad else 1
