"""A trace folder: `manifest.json`, `samples.jsonl`, one `part-*.parquet` a sample, answers, failures, token strings.

Every file is written under a temporary name and renamed when complete, so a kill at any moment loses at most the sample
in work. What is already there is never mixed with another identity.

    manifest.json            identity and circumstances
    samples.jsonl            the prompts or documents, one a line, in order
    answers-00003.json       token ids generated for batch 3 (answers only); a resumed run does not generate them again
    part-00017.parquet       the rows of sample 17
    failed-00018.json        why sample 18 has no rows
    tokens.parquet           id and text of every token id in the trace; written last
    precision.json           how many of the samples were enough, where a precision was asked for; after that
"""

import json
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydantic

from exitbench.errors import CorruptTraceError, OtherTraceError, TraceError
from exitbench.files import replacing, write_json, write_text
from exitbench.trace.manifest import SCHEMA_VERSION, Manifest
from exitbench.trace.parts import Rows, read_part, write_part
from exitbench.trace.precision import Precision
from exitbench.trace.table import Failure, SampleInfo, Trace

__all__ = ["TraceFolder", "is_trace_folder", "read_answers", "read_manifest", "read_trace"]

_PRECISION = "precision.json"
_OR_SKIP = ", or leave it out with --skip-corrupt"


def is_trace_folder(path: Path) -> bool:
    """Whether `path` holds a trace, complete or not."""
    return (path / "manifest.json").is_file()


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a trace folder.

    Raises:
        TraceError: no trace there, or one that may not be read.
        OtherTraceError: one of another schema.
        CorruptTraceError: the file is damaged.
    """
    file = path / "manifest.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        found = content.get("schema_version")
        if found != SCHEMA_VERSION:
            raise OtherTraceError(
                f"{file} has schema version {found}, this exitbench reads version {SCHEMA_VERSION}; "
                "upgrade exitbench or trace again"
            )
        return Manifest.model_validate(content)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise TraceError(
            f"{path} holds no trace (no manifest.json); make one with 'exitbench trace MODEL --out {path}'"
        ) from error
    except OSError as error:
        raise TraceError(f"cannot read {file}: {error.strerror or error}; check its permissions") from error
    except (json.JSONDecodeError, UnicodeDecodeError, pydantic.ValidationError, AttributeError) as error:
        raise CorruptTraceError(f"{file} is no manifest of a trace ({_first_line(error)}); trace again") from error


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def _differences(a: Any, b: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(Where, what is there and what is now) for every value that differs."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            yield from _differences(a.get(key), b.get(key), f"{path}.{key}" if path else key)
    elif a != b:
        yield path, f"{textwrap.shorten(str(a), 70)} there, {textwrap.shorten(str(b), 70)} now"


def _is_first_write(file: Path) -> bool:
    """Whether a run was killed while it wrote the very first file of a trace, and this is what it left."""
    return file.match(".manifest.json.*.tmp")


class TraceFolder:
    """A trace being written, new or resumed; by nobody else meanwhile, see `sole_writer`.

    What a killed run left half-written is removed. The parts that are there are read once, so that a damaged one is
    found before hours are spent on the others.

    Args:
        path: the folder; made if missing.
        manifest: what is about to be traced.
        samples: every sample, in order.

    Raises:
        OtherTraceError: the folder holds a trace of another identity, or files that are not a trace's.
        CorruptTraceError: a part that is there cannot be read; names it.
    """

    def __init__(self, path: Path, manifest: Manifest, samples: Sequence[SampleInfo]) -> None:
        self.path = path
        self.manifest = manifest
        self.samples = samples
        self._token_ids: set[int] = set()
        if is_trace_folder(path):
            self._refuse_other_identity()
        elif path.exists() and (not path.is_dir() or any(not _is_first_write(file) for file in path.iterdir())):
            raise OtherTraceError(f"{path} exists and holds no trace; give an empty or new folder with --out")
        else:
            write_json(path / "manifest.json", manifest.model_dump(mode="json"))
        for file in path.glob(".*.tmp"):
            with suppress(OSError):  # no reader looks at it
                file.unlink()
        if not (path / "samples.jsonl").is_file():  # nor is it where a run was killed after its first file
            lines = (json.dumps(asdict(sample), ensure_ascii=False) for sample in samples)
            write_text(path / "samples.jsonl", "".join(line + "\n" for line in lines))
        for index, sample in enumerate(samples):
            if self.is_done(index):
                self._note_tokens(read_part(self._part(index), sample, manifest.shape.num_blocks))

    def _refuse_other_identity(self) -> None:
        there = read_manifest(self.path)
        # What was asked for says more than what followed from it.
        telling = ("settings", "model", "workload", "libraries", "schema_version", "shape")
        places = sorted(
            _differences(there.identity(), self.manifest.identity()),
            key=lambda item: telling.index(item[0].partition(".")[0]),
        )
        if places:
            different = [f"{place} ({values})" for place, values in places[:3]]
            more = f" and {len(places) - 3} more" if len(places) > 3 else ""
            raise OtherTraceError(
                f"{self.path} holds another trace: {'; '.join(different)}{more}; "
                "choose another --out folder, or delete that one"
            )

    def is_done(self, index: int) -> bool:
        """Whether sample `index` is traced. A failed one is not: it is tried again."""
        return self._part(index).is_file()

    def write(self, index: int, rows: Rows) -> None:
        """Store the rows of sample `index`."""
        write_part(self._part(index), self.samples[index], rows)
        self._note_tokens(rows)
        self._failed(index).unlink(missing_ok=True)

    def write_failure(self, index: int, reason: str) -> None:
        """Record why sample `index` has no rows."""
        write_json(self._failed(index), {"sample_id": self.samples[index].id, "reason": reason})

    def read_answers(self, batch: int, samples: Sequence[SampleInfo]) -> list[list[list[int]]] | None:
        """Token ids generated for the `samples` of a batch, see `read_answers`."""
        return read_answers(self.path, batch, samples)

    def write_answers(self, batch: int, answers: list[list[list[int]]]) -> None:
        """Store the token ids generated for a batch."""
        write_text(_answers_file(self.path, batch), json.dumps(answers) + "\n")

    def token_ids(self) -> list[int]:
        """Every token id that occurs in the parts, sorted."""
        return sorted(self._token_ids)

    def _note_tokens(self, rows: Rows) -> None:
        for values in (rows.input_id, rows.target_id, rows.signals.get("top1_id", rows.final_id)):
            self._token_ids.update(np.unique(values).tolist())

    def write_token_strings(self, strings: dict[int, str]) -> None:
        """Store the decoded text of token ids; the last file of a complete trace."""
        table = pa.table(
            {"id": pa.array(list(strings), pa.int32()), "text": pa.array(list(strings.values()), pa.string())}
        )
        with replacing(self.path / "tokens.parquet") as temporary:
            pq.write_table(table, temporary, compression="zstd")

    def write_precision(self, precision: Precision) -> None:
        """Store where the trace stopped; with it, its first samples are a complete trace."""
        write_json(self.path / _PRECISION, precision.model_dump(mode="json"))

    def _part(self, index: int) -> Path:
        return self.path / f"part-{index:05d}.parquet"

    def _failed(self, index: int) -> Path:
        return self.path / f"failed-{index:05d}.json"


def _answers_file(path: Path, batch: int) -> Path:
    return path / f"answers-{batch:05d}.json"


def read_answers(path: Path, batch: int, samples: Sequence[SampleInfo]) -> list[list[list[int]]] | None:
    """Token ids generated for the `samples` of a batch, per sample and turn; None if not generated yet.

    Args:
        path: the trace folder.
        batch: its number.
        samples: those in it.

    Raises:
        CorruptTraceError: the file cannot be read; names it.
    """
    file = _answers_file(path, batch)
    if not file.is_file():
        return None
    with _readable(file):
        answers: list[list[list[int]]] = json.loads(file.read_text(encoding="utf-8"))
        if not _are_answers(answers, samples):
            raise ValueError(f"no lists of token ids for {len(samples)} samples")
    return answers


def _are_answers(answers: Any, samples: Sequence[SampleInfo]) -> bool:
    """Whether these are token ids for every sample: an answer a turn, or fewer where it outgrew the context."""
    return (
        isinstance(answers, list)
        and len(answers) == len(samples)
        and all(isinstance(a, list) and len(a) <= len(s.turns) for a, s in zip(answers, samples, strict=True))
        and all(isinstance(turn, list) and turn for a in answers for turn in a)
        and all(type(token) is int for a in answers for turn in a for token in turn)
    )


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Turn whatever reading a damaged file raises into one line that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise CorruptTraceError(
            f"{file} cannot be read ({_first_line(error)}); delete it and run the trace again"
        ) from error


def _read_samples(path: Path) -> tuple[SampleInfo, ...]:
    file = path / "samples.jsonl"
    with _readable(file):
        # Prompts may hold line separators that `splitlines` would cut at.
        lines = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        records = [json.loads(line) for line in lines]
        return tuple(SampleInfo(**{**record, "turns": tuple(record["turns"])}) for record in records)


def _read_failure(file: Path) -> Failure:
    with _readable(file):
        return Failure(**json.loads(file.read_text(encoding="utf-8")))


def _read_token_strings(path: Path, *, skip_corrupt: bool) -> dict[int, str]:
    file = path / "tokens.parquet"
    if not file.is_file():
        return {}
    try:
        with _readable(file):
            table = pq.read_table(file)
            ids: list[Any] = table.column("id").to_pylist()
            texts: list[Any] = table.column("text").to_pylist()
            return dict(zip(ids, texts, strict=True))
    except CorruptTraceError as error:
        if not skip_corrupt:
            raise CorruptTraceError(f"{error}{_OR_SKIP}") from error
        return {}


def _read_precision(path: Path, num_samples: int) -> Precision:
    """Where a trace in the order of looks stopped.

    Raises:
        TraceError: it has not stopped yet.
    """
    file = path / _PRECISION
    if not file.is_file():
        raise TraceError(
            f"{path} is not finished: its precision is not reached yet, and there are prompts left; "
            "run the same again, it resumes"
        )
    with _readable(file):  # a validation error is a ValueError
        precision = Precision.model_validate_json(file.read_text(encoding="utf-8"))
        if precision.looks[-1].n_samples > num_samples:
            raise ValueError(f"it counts more samples than the {num_samples} there are")
    return precision


def read_trace(path: Path, *, skip_corrupt: bool = False, first: int | None = None) -> Trace:
    """Read a trace folder.

    Args:
        path: the folder.
        skip_corrupt: leave out parts that cannot be read; they become failures that say so. Text of tokens that cannot
            be read is left out too, being for display only.
        first: read only that many samples, of a trace that is in work.

    Raises:
        CorruptTraceError: a file cannot be read; names it.
        TraceError: no trace, an unfinished one, or one in which every sample failed.
    """
    manifest = read_manifest(path)
    samples, precision = _read_samples(path), None
    if first is None and manifest.settings.order == "looks":
        precision = _read_precision(path, len(samples))
        first = precision.looks[-1].n_samples
    samples = samples[:first]
    parts: list[tuple[int, Rows]] = []
    failures: list[Failure] = []
    missing = 0
    for index, sample in enumerate(samples):
        part, failed = path / f"part-{index:05d}.parquet", path / f"failed-{index:05d}.json"
        if part.is_file():
            try:
                parts.append((index, read_part(part, sample, manifest.shape.num_blocks)))
            except CorruptTraceError as error:
                if not skip_corrupt:
                    raise CorruptTraceError(f"{error}{_OR_SKIP}") from error
                failures.append(Failure(sample_id=sample.id, reason=f"{part.name} is corrupt and was left out"))
        elif failed.is_file():
            failures.append(_read_failure(failed))
        else:
            missing += 1
    if missing:
        raise TraceError(
            f"{path} is not finished: {missing} of {len(samples)} samples are missing; "
            "run the same trace again, it resumes"
        )
    if not parts:
        raise TraceError(f"{path} has no traced sample: all {len(samples)} failed, first: {failures[0].reason}")
    joined = _joined(manifest, samples, parts, tuple(failures), _read_token_strings(path, skip_corrupt=skip_corrupt))
    return replace(joined, precision=precision)


def _joined(
    manifest: Manifest,
    samples: tuple[SampleInfo, ...],
    parts: list[tuple[int, Rows]],
    failures: tuple[Failure, ...],
    token_strings: dict[int, str],
) -> Trace:
    rows = [r for _, r in parts]
    for index, r in parts:
        different = r.signals.keys() ^ rows[0].signals.keys()
        if different:
            raise CorruptTraceError(
                f"part-{index:05d}.parquet and part-{parts[0][0]:05d}.parquet do not hold the same signals "
                f"({', '.join(sorted(different))}); they were traced with other plug-ins, trace again"
            )
    return Trace(
        manifest=manifest,
        samples=samples,
        failures=failures,
        sample_index=np.repeat(np.array([index for index, _ in parts], np.int32), [len(r.position) for r in rows]),
        turn=np.concatenate([r.turn for r in rows]),
        position=np.concatenate([r.position for r in rows]),
        input_id=np.concatenate([r.input_id for r in rows]),
        target_id=np.concatenate([r.target_id for r in rows]),
        final_id=np.concatenate([r.final_id for r in rows]),
        decision_depth=np.concatenate([r.decision_depth for r in rows]),
        signals={name: np.concatenate([r.signals[name] for r in rows]) for name in rows[0].signals},
        token_strings=token_strings,
    )
