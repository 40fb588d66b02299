"""The options that several commands share, alone and in groups.

The command line's parser knows no groups: every option is a parameter of its command. `grouped` lets a command take a
group as one parameter.
"""

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from exitbench.config import DecodeOptions, LensOptions, RowMode, StateMode, TraceOptions
from exitbench.errors import ExitbenchError
from exitbench.progress import Progressor

if TYPE_CHECKING:
    from exitbench.models.load import LoadedModel
    from exitbench.replay.assemble import ReplayOptions

__all__ = [
    "DecodeGroup",
    "JsonOption",
    "LensGroup",
    "LoadGroup",
    "ModelArgument",
    "QuietOption",
    "ReplayGroup",
    "ScoreSeedOption",
    "SkipCorruptOption",
    "TraceGroup",
    "WorkloadOption",
    "grouped",
    "parse_numbers",
]

ModelArgument = Annotated[
    str,
    typer.Argument(
        help="Short name, hub id, folder, GGUF file or pypi:PACKAGE==VERSION.", show_default="the demo model"
    ),
]
WorkloadOption = Annotated[str, typer.Option(help="NAME, FILE (.jsonl, .txt) or hub:ID.")]
ScoreSeedOption = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="Seed of the bootstrap and of the folds.", show_default="the trace's own"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress bars or messages; results and errors stay.")]
SkipCorruptOption = Annotated[bool, typer.Option("--skip-corrupt", help="Leave out parts that cannot be read.")]


@dataclass(frozen=True, kw_only=True)
class TraceGroup:
    """What is counted and recorded."""

    on: Annotated[
        Literal["answers", "text"] | None,
        typer.Option(
            help="Tokens counted: the model's own answers, or given text.", show_default="what the workload is"
        ),
    ] = None
    limit: Annotated[int | None, typer.Option(help="Number of prompts, spread over the categories.")] = None
    precision: Annotated[
        float | None, typer.Option(help="Half-width of EES's interval to stop at.", show_default="all prompts are used")
    ] = None
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 32
    chat_template: Annotated[bool, typer.Option(help="Use the model's chat template where it has one.")] = True
    fast: Annotated[
        bool, typer.Option("--fast", help="Record only when each token is decided: EES and its curves, no more.")
    ] = False
    also: Annotated[
        list[str] | None,
        typer.Option(help="An optional signal to record too; may be given again.", metavar="NAME", show_default=False),
    ] = None
    readout: Annotated[str, typer.Option(help="How hidden states are read out: logit, or tuned:FILE.")] = "logit"
    memory: Annotated[str, typer.Option(help="Most to hold beside the weights and one pass, e.g. 512MiB.")] = "2GiB"
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap and of the folds.")] = 0

    def options(self) -> TraceOptions:
        """The same as checked options of a measurement.

        Raises:
            ExitbenchError: one of them is wrong, names of signals included.
        """
        options = TraceOptions(**(asdict(self) | {"also": tuple(self.also or ())}))
        if options.also:
            from exitbench.signals.registry import recorded_names  # imports torch, which takes seconds

            recorded_names(options.also)
        return options


@dataclass(frozen=True, kw_only=True)
class ReplayGroup:
    """What exit policies are held to, and what their costs assume."""

    eps: Annotated[
        list[float] | None, typer.Option(help="Largest risk; may be repeated.", show_default="0.01 and 0.05")
    ] = None
    procedure: Annotated[
        list[str] | None,
        typer.Option(
            help="How thresholds are chosen: bootstrap, fixed-sequence, bonferroni or conformal; may be repeated.",
            show_default="bootstrap and fixed-sequence",
        ),
    ] = None
    risk: Annotated[
        Literal["token", "answer", "task"],
        typer.Option(help="Of what: tokens changed, answers changed, loss of the task metric (certificates only)."),
    ] = "token"
    delta: Annotated[float, typer.Option(help="Chance that a certificate is wrong.")] = 0.1
    batch: Annotated[int, typer.Option(min=1, help="Rows decoded together, for net columns.")] = 1
    context: Annotated[int, typer.Option(min=1, help="Positions attended to, for net columns.")] = 512
    profile: Annotated[
        str | None, typer.Option(help="Profile for projected times: a name or a FILE of 'exitbench profile'.")
    ] = None
    seed: ScoreSeedOption = None

    def options(self, *, trace_seed: int) -> "ReplayOptions":
        """The same as checked options of a replay."""
        from exitbench.replay.assemble import ReplayOptions
        from exitbench.replay.profiles import load_profile
        from exitbench.replay.targets import targets

        return ReplayOptions(
            targets=targets(
                eps=self.eps or (0.01, 0.05),
                procedures=self.procedure or ("bootstrap", "fixed-sequence"),
                risk=self.risk,
                delta=self.delta,
            ),
            batch=self.batch,
            context=self.context,
            profile=None if self.profile is None else load_profile(self.profile),
            seed=trace_seed if self.seed is None else self.seed,
        )


@dataclass(frozen=True, kw_only=True)
class DecodeGroup:
    """How a workload is decoded."""

    state: Annotated[
        StateMode, typer.Option(help="How skipped blocks get their state; lossless: exits are drafts, checked.")
    ] = "deferred"
    rows: Annotated[
        RowMode, typer.Option(help="In a batch, rows that have left make room for the others or go along.")
    ] = "regroup"
    batch: Annotated[int, typer.Option(help="Prompts decoded together.")] = 1
    draft: Annotated[int, typer.Option(help="Most tokens drafted before a check (lossless).")] = 4
    most_waiting: Annotated[int, typer.Option(help="Most tokens of an answer that wait (deferred).")] = 8
    limit: Annotated[int | None, typer.Option(help="Number of prompts, spread over the categories.")] = None
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 64
    chat_template: Annotated[bool, typer.Option(help="Use the model's chat template where it has one.")] = True
    readout: Annotated[str, typer.Option(help="logit, or tuned:FILE with a lens of 'exitbench lens'.")] = "logit"
    run_code: Annotated[
        bool,
        typer.Option("--run-code", help="Run answers' Python code if references are tests; no guard against malice."),
    ] = False

    def options(self) -> DecodeOptions:
        """The same as checked options."""
        return DecodeOptions(**asdict(self))


@dataclass(frozen=True, kw_only=True)
class LensGroup:
    """How a tuned lens is trained."""

    tokens: Annotated[int, typer.Option(help="To be seen in training; a shorter text is gone through again.")] = 65_536
    learning_rate: Annotated[float, typer.Option(help="Of the first step; it falls linearly to 0.")] = 1e-3
    seed: Annotated[int, typer.Option(min=0, help="Draws what is held out, and the order of the rest.")] = 0

    def options(self) -> LensOptions:
        """The same as checked options of a training."""
        return LensOptions(**asdict(self))


@dataclass(frozen=True, kw_only=True)
class LoadGroup:
    """How a model is loaded."""

    dtype: Annotated[
        Literal["float32", "bfloat16", "float16", "auto"],
        typer.Option(help="auto is the checkpoint's own; float32 for GGUF."),
    ] = "auto"
    device: Annotated[
        str | None,
        typer.Option(help="torch device, or auto: GPUs, then memory, then disk.", show_default="cuda, else cpu"),
    ] = None
    max_memory: Annotated[
        str | None, typer.Option(help="With --device auto, e.g. cpu=8GiB,cuda:0=70GiB.", show_default="what is free")
    ] = None
    attention: Annotated[str | None, typer.Option(help="Attention implementation, e.g. sdpa or eager.")] = None
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub model.")] = None
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model.")
    ] = False

    def load(self, model: str, *, progress: Progressor, require: bool = True) -> "LoadedModel":
        """`load` with these options, on a GPU where there is one and no device was named."""
        import torch

        from exitbench.models.load import load

        named = asdict(self) | {"device": self.device or ("cuda" if torch.cuda.is_available() else "cpu")}
        return load(model, progress=progress, require=require, **named)


def parse_numbers(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers with commas between.

    Raises:
        ExitbenchError: something else; names the option.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ExitbenchError(f"{option} is {text!r}, expected whole numbers with commas between, e.g. 1,2,4") from error


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option for each field of the groups among its parameters, in the group's place."""
    groups: dict[str, type[Any]] = {}
    flat: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        group = parameter.annotation
        if is_dataclass(group):
            assert isinstance(group, type)
            groups[name] = group
            hints = get_type_hints(group, include_extras=True)
            flat += [parameter.replace(name=f.name, default=f.default, annotation=hints[f.name]) for f in fields(group)]
        else:
            flat.append(parameter)

    @wraps(command)
    def with_groups(**given: Any) -> None:
        made = {name: group(**{f.name: given.pop(f.name) for f in fields(group)}) for name, group in groups.items()}
        command(**given, **made)

    with_groups.__dict__["__signature__"] = inspect.Signature(flat)
    with_groups.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return with_groups
