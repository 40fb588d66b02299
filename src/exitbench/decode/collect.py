"""Decode a workload with early exit and in full, side by side.

Both go through the same loop, batch by batch in turns, so that drift of the machine meets both alike. The first batch
of a run is decoded once before it counts, to warm up. Later turns of a conversation follow the full model's answers to
the earlier ones, so that both answer the same prompts.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from exitbench.config import DecodeOptions
from exitbench.decode.decoder import ExitDecoder
from exitbench.decode.engine import Answer, Decoded
from exitbench.decode.record import Batch, Manifest, Settings, Side, Turn
from exitbench.decode.store import begin, read_batches, write_batch
from exitbench.decode.surprise import negative_log_likelihood
from exitbench.decode.timing import quiet
from exitbench.env import environment_report, library_versions
from exitbench.errors import DecodeError, WorkloadError
from exitbench.lens.translators import translators_for
from exitbench.models.load import LoadedModel
from exitbench.policies import ExitPolicy
from exitbench.progress import SILENT, Progressor
from exitbench.trace.decided import remaining_costs
from exitbench.trace.identity import model_identity, workload_identity
from exitbench.trace.lock import sole_writer
from exitbench.trace.prompts import conversation_ids, has_chat_template
from exitbench.workloads import Sample, Workload

__all__ = ["decode_workload"]


def decode_workload(
    loaded: LoadedModel,
    workload: Workload,
    policy: ExitPolicy,
    folder: Path,
    *,
    options: DecodeOptions,
    command: str = "",
    progress: Progressor = SILENT,
) -> None:
    """Decode a workload into a folder, or finish what was begun there.

    Args:
        loaded: the model.
        workload: of prompts.
        policy: when tokens leave.
        folder: for the answers.
        options: how.
        command: recorded as what made the folder.
        progress: where to show a bar.

    Raises:
        WorkloadError: plain text, or a prompt that does not fit.
        DecodeError: what cannot be decoded, or a folder with other answers.
    """
    if workload.kind != "prompts":
        raise WorkloadError(f"workload {workload.name!r} is plain text and asks nothing; decode takes prompts")
    work = _Work(loaded, workload, policy, options)
    with sole_writer(folder):
        begin(folder, work.manifest(command))
        done = {batch.number for batch in read_batches(folder)}
        starts = range(0, len(work.samples), options.batch)
        batches = [(number, work.samples[start : start + options.batch]) for number, start in enumerate(starts)]
        todo = [(number, samples) for number, samples in batches if number not in done]
        with progress.bar(f"Decoding with {loaded.name}", len(batches)) as advance:
            advance(len(done))
            for place, (number, samples) in enumerate(todo):
                if place == 0:
                    work.decode(number, samples)
                write_batch(folder, work.decode(number, samples))
                advance(1)


class _Work:
    """Two decoders on the samples of a workload."""

    def __init__(self, loaded: LoadedModel, workload: Workload, policy: ExitPolicy, options: DecodeOptions) -> None:
        self._loaded, self._workload, self._options = loaded, workload, options
        limited = workload if options.limit is None else workload.limited(options.limit)
        self.samples: Sequence[Sample] = limited.samples
        self._chat = options.chat_template and has_chat_template(loaded.tokenizer)
        self._lens = translators_for(loaded, options.readout)
        self._exit = ExitDecoder(
            loaded,
            policy,
            state=options.state,
            rows=options.rows,
            draft=options.draft,
            most_waiting=options.most_waiting,
            translators=self._lens,
        )
        never = policy.model_copy(update={"threshold": None})
        self._full = ExitDecoder(loaded, never, abilities=self._exit.abilities)
        for sample in self.samples:
            try:
                self._exit.require_room([self._prompt(sample, [])], options.max_new_tokens)
            except DecodeError as error:
                raise DecodeError(f"sample {sample.id!r}: {error}") from error

    def manifest(self, command: str) -> Manifest:
        """What the folder will say of itself."""
        options, model = self._options, self._loaded.model
        lossless, deferred = options.state == "lossless", options.state == "deferred"
        return Manifest(
            model=model_identity(self._loaded),
            workload=workload_identity(self._workload),
            settings=Settings(
                policy=self._exit.policy.to_json(),
                state=options.state,
                rows=options.rows,
                draft=options.draft if lossless else None,
                most_waiting=options.most_waiting if deferred else None,
                batch=options.batch,
                max_new_tokens=options.max_new_tokens,
                readout="logit" if self._lens is None else self._lens.name,
                dtype=str(model.dtype).removeprefix("torch."),
                attention=model.config._attn_implementation,
                device=model.device.type,
                chat_template=self._chat,
                limit=options.limit,
            ),
            rho=tuple(map(float, remaining_costs(self._loaded.shape.block_costs))),
            libraries=library_versions(),
            environment=environment_report(),
            command=command,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def decode(self, number: int, samples: Sequence[Sample]) -> Batch:
        """All turns of some samples."""
        said: list[list[Answer]] = [[] for _ in samples]
        turns: list[Turn] = []
        sides: list[tuple[Decoded, Decoded]] = []
        for turn in range(max(len(sample.turns) for sample in samples)):
            waiting = [place for place, sample in enumerate(samples) if len(sample.turns) > turn == len(said[place])]
            asked = {place: self._prompt(samples[place], said[place]) for place in waiting}
            longest = self._options.max_new_tokens
            places = [place for place in waiting if self._loaded.has_room_for(len(asked[place]) + longest)]
            turns += [self._outgrown(samples[place], turn, asked[place]) for place in waiting if place not in places]
            if not places:
                continue
            prompts = [asked[place] for place in places]
            full, early = self._both(prompts, exit_first=(number + turn) % 2 == 1)
            sides.append((full, early))
            for place, prompt, whole, answer in zip(places, prompts, full.answers, early.answers, strict=True):
                said[place].append(whole)
                turns.append(self._turn(samples[place], turn, prompt, whole, answer))
        return Batch(
            number=number,
            turns=tuple(turns),
            full=_side([full for full, _ in sides]),
            exit=_side([early for _, early in sides]),
        )

    def _both(self, prompts: Sequence[Sequence[int]], *, exit_first: bool) -> tuple[Decoded, Decoded]:
        """The same prompts by both decoders, one after the other, with nothing left over from before."""
        order = [self._exit, self._full] if exit_first else [self._full, self._exit]
        with quiet():
            decoded = [decoder.decode(prompts, max_new_tokens=self._options.max_new_tokens) for decoder in order]
        full, early = reversed(decoded) if exit_first else decoded
        return full, early

    def _prompt(self, sample: Sample, answers: Sequence[Answer]) -> list[int]:
        texts = [self._text(answer.ids) for answer in answers]
        return conversation_ids(self._loaded.tokenizer, sample.turns[: len(answers) + 1], texts, chat=self._chat)

    def _text(self, ids: Sequence[int]) -> str:
        return str(self._loaded.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _outgrown(self, sample: Sample, turn: int, prompt: Sequence[int]) -> Turn:
        """A turn of a conversation that has become longer than the model's context, and the last one of it."""
        failure = f"turn {turn + 1} and its answer are longer than the model's context of {self._loaded.context_length}"
        return self._turn(sample, turn, prompt, Answer(ids=(), depths=(), failure=failure), Answer(ids=(), depths=()))

    def _nll(self, prompt: Sequence[int], answer: Answer) -> float | None:
        value = negative_log_likelihood(self._loaded, prompt, answer.ids) if answer.ids else math.nan
        return value if math.isfinite(value) else None

    def _turn(self, sample: Sample, turn: int, prompt: Sequence[int], full: Answer, early: Answer) -> Turn:
        assert early.depths is not None
        return Turn(
            sample_id=sample.id,
            category=sample.category,
            turn=turn,
            reference=sample.reference if turn == len(sample.turns) - 1 else None,
            num_prompt_tokens=len(prompt),
            full_ids=full.ids,
            ids=early.ids,
            depths=early.depths,
            full_text=self._text(full.ids),
            text=self._text(early.ids),
            full_nll=self._nll(prompt, full),
            nll=self._nll(prompt, early),
            failure=early.failure or full.failure,
        )


def _side(parts: Sequence[Decoded]) -> Side:
    """What one decoder took for all turns of a batch."""
    counts: dict[str, int] = {}
    for part in parts:
        counts = {name: counts.get(name, 0) + number for name, number in part.counts.items()}
    return Side(
        prefill_s=sum(part.prefill_s or 0.0 for part in parts),
        total_s=sum(part.total_s for part in parts),
        counts=counts,
    )
