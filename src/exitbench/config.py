"""Options of a measurement: frozen, keyword-only, checked when made."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from exitbench.errors import ExitbenchError
from exitbench.sizes import parse_size

__all__ = ["TUNED", "DecodeOptions", "LensOptions", "Mode", "ReportForm", "RowMode", "StateMode", "TraceOptions"]

Mode = Literal["answers", "text"]
StateMode = Literal["deferred", "copy", "lossless"]
"""How skipped blocks get their state when tokens are decoded."""
RowMode = Literal["regroup", "lockstep"]
"""What rows of a batch do that have left: make room for the others, or go along."""

ReportForm = Literal["html", "md", "csv", "parquet", "png", "svg"]
"""A page, a table for people, every row for programs, or pictures."""

TUNED = "tuned:"
"""What the readout by a tuned lens begins with."""
_LEAST_MEMORY = 2**20


def check_readout(readout: str) -> None:
    """Refuse a readout that cannot be, before a model is loaded.

    Raises:
        ExitbenchError: neither "logit" nor "tuned:" and a file.
    """
    path = readout.removeprefix(TUNED)
    if readout != "logit" and (not path or path == readout):
        raise ExitbenchError(f"--readout is {readout!r}, expected 'logit' or '{TUNED}FILE' with a tuned lens")
    if readout != "logit" and not Path(path).is_file():
        raise ExitbenchError(
            f"--readout is {readout!r}, and there is no file {path}; "
            f"train a lens with 'exitbench lens MODEL --workload TEXT --out {path}'"
        )


@dataclass(frozen=True, kw_only=True)
class TraceOptions:
    """How a model is traced on a workload."""

    on: Mode | None = None
    """Tokens counted: the model's own greedy answers, or given text. None: what the workload is made of."""
    limit: int | None = None
    """Number of prompts (on text: documents), spread over the categories; None for all."""
    precision: float | None = None
    """Half-width of the interval of EES at which no further prompt is used; None to use all."""
    max_new_tokens: int = 32
    """Longest answer, end token included."""
    document_tokens: int = 512
    """Length of the documents that a text is cut into."""
    chat_template: bool = True
    """Put prompts into the model's chat template where it has one."""
    generation_batch: int = 16
    """Prompts generated together; fixed, so that a resumed run generates the same answers."""
    fast: bool = False
    """Record only the final token and the depth at which it is decided, no signals."""
    also: tuple[str, ...] = ()
    """Names of optional signals to record beside the others, in any order; kept sorted, each once."""
    readout: str = "logit"
    """How hidden states are read out: "logit", or "tuned:" and the file of a lens."""
    memory: str = "2GiB"
    """Most to hold at once beside the weights and one pass, about: logits and hidden states."""
    seed: int = 0
    """Recorded in the trace; tracing itself draws nothing at random but, with a precision, the order of prompts."""

    @property
    def memory_bytes(self) -> int:
        """`memory` as a number."""
        size = parse_size(self.memory)
        assert size
        return size

    def __post_init__(self) -> None:
        object.__setattr__(self, "also", tuple(sorted(set(self.also))))
        if self.also and self.fast:
            raise ExitbenchError(
                f"--also {self.also[0]} goes with a full trace, and --fast records no signals; leave out one of the two"
            )
        for name, least in (
            ("limit", 1),
            ("max_new_tokens", 1),
            ("document_tokens", 2),
            ("generation_batch", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                option = "--" + name.replace("_", "-")
                raise ExitbenchError(f"{option} is {value}, expected at least {least}; no token would be traced")
        if self.precision is not None and not 0 < self.precision < 0.5:  # nor is it where it is no number
            raise ExitbenchError(
                f"--precision is {self.precision}, expected the half-width of an interval of a share, above 0 and "
                "below 0.5; give for example 0.02"
            )
        if (parse_size(self.memory) or 0) < _LEAST_MEMORY:
            raise ExitbenchError(f"--memory is {self.memory!r}, expected at least 1MiB, for example 512MiB or 2GiB")
        check_readout(self.readout)
        if self.seed < 0:
            raise ExitbenchError(f"--seed is {self.seed}, expected at least 0; give a seed that is not negative")
        if self.on is not None and self.on not in get_args(Mode):
            raise ExitbenchError(f"--on is {self.on!r}, expected 'answers' or 'text'")


@dataclass(frozen=True, kw_only=True)
class LensOptions:
    """How a tuned lens is trained."""

    tokens: int = 65_536
    """Seen in training, at least; a shorter text is gone through again."""
    learning_rate: float = 1e-3
    """Of the first step; it falls linearly to 0."""
    document_tokens: int = 512
    """Length of the documents that a text is cut into."""
    seed: int = 0
    """Draws the documents that are held out, and the order of the others."""

    def __post_init__(self) -> None:
        for name, least in (("tokens", 1), ("document_tokens", 2), ("seed", 0)):
            if getattr(self, name) < least:
                option = "--" + name.replace("_", "-")
                raise ExitbenchError(f"{option} is {getattr(self, name)}, expected at least {least}")
        if not 0 < self.learning_rate <= 1:  # nor is it where it is no number
            raise ExitbenchError(
                f"--learning-rate is {self.learning_rate}, expected a number above 0 and at most 1, such as 0.001"
            )


@dataclass(frozen=True, kw_only=True)
class DecodeOptions:
    """How a workload is decoded with early exit."""

    state: StateMode = "deferred"
    rows: RowMode = "regroup"
    draft: int = 4
    """Most tokens drafted before they are checked, with the state "lossless"."""
    most_waiting: int = 8
    """Most tokens of a row that wait, with the state "deferred"."""
    batch: int = 1
    """Prompts decoded together."""
    limit: int | None = None
    """Number of prompts, spread over the categories; None for all."""
    max_new_tokens: int = 64
    """Longest answer, end token included."""
    chat_template: bool = True
    """Put prompts into the model's chat template where it has one."""
    readout: str = "logit"
    """How hidden states below depth L are read out: "logit", or "tuned:" and the file of a lens."""
    run_code: bool = False
    """Run Python code of answers where references are tests. It is kept apart against accidents, not against malice."""

    def __post_init__(self) -> None:
        for name in ("draft", "most_waiting", "batch", "limit", "max_new_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ExitbenchError(f"--{name.replace('_', '-')} is {value}, expected at least 1")
        if self.state == "lossless" and self.batch > 1:
            raise ExitbenchError(
                f"--batch is {self.batch}, expected 1 with --state lossless, which checks prompt by prompt"
            )
        check_readout(self.readout)
