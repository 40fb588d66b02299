"""The jobs of the command line as Python functions.

    from exitbench.api import load, trace, score

    model = load("smollm2-135m-instruct")
    card = score(trace(model, "mini", out="out/trace"))
    print(card.verdict)

The names stand here and not in `exitbench` itself because the packages `exitbench.trace`, `exitbench.score` and
`exitbench.report` already carry them. Importing this module imports torch; reading results does not need it.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from exitbench.config import TUNED, LensOptions, TraceOptions
from exitbench.env import library_versions
from exitbench.errors import LensError, ReportError
from exitbench.files import write_json, write_text
from exitbench.lens import Origin, Plan, Translators, make_plan, train, translators_for
from exitbench.models.load import LoadedModel, load
from exitbench.models.strict import quiet_transformers
from exitbench.policies import POLICIES, ExitPolicy, read_policy, write_policy
from exitbench.profiling import ProfileOptions, measure_profile
from exitbench.progress import SILENT, Progressor
from exitbench.replay.assemble import SCHEDULES, ReplayOptions, at_schedules, why_no_replay, zoo
from exitbench.replay.assemble import replay as replay_trace
from exitbench.replay.calibrate import calibrate
from exitbench.replay.profiles import MeasuredProfile, write_profile
from exitbench.replay.result import Replay
from exitbench.report import Result, markdown_card, write_report
from exitbench.score import ScoreCard
from exitbench.score import score as score_trace
from exitbench.score.assemble import DRAWS
from exitbench.score.looks import Looks
from exitbench.signals import compute_signals
from exitbench.stats.bootstrap import Bootstrap, draw_weights
from exitbench.stats.figure import Curve, Figure
from exitbench.trace.collect import collect
from exitbench.trace.lock import sole_writer
from exitbench.trace.prompts import cut_into_documents
from exitbench.trace.store import is_trace_folder, read_trace
from exitbench.trace.table import Trace
from exitbench.workloads import Workload, load_workload

__all__ = [
    "ExitPolicy",
    "LensOptions",
    "LoadedModel",
    "MeasuredProfile",
    "ProfileOptions",
    "Replay",
    "ReplayOptions",
    "Run",
    "ScoreCard",
    "Trace",
    "TraceOptions",
    "TrainedLens",
    "Workload",
    "lens",
    "load",
    "load_workload",
    "policies_named",
    "profile",
    "read_trace",
    "replay",
    "report",
    "run",
    "save_policies",
    "score",
    "trace",
]

DEMO_MODEL = "smollm2-135m-instruct"
REPLAY_FILE = "replay.json"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the main job leaves in its folder."""

    folder: Path
    trace: Trace
    card: ScoreCard
    replay: Replay | None
    """None where there is nothing to replay: a fast trace, or fewer than 10 prompts."""
    report: Path


@dataclass(frozen=True, kw_only=True)
class TrainedLens:
    """A tuned lens, and what it does on documents that it was not trained on."""

    path: Path
    name: str
    """What traces call it."""
    steps: int
    tokens: int
    """Seen in training."""
    seconds: float
    """Of training, in this run."""
    n_tokens: int
    """Held out."""
    n_documents: int
    """Held out."""
    kl_logit: Curve
    """Mean KL, in nats, from the final distribution to the one read out by the logit lens, by depth."""
    kl_tuned: Curve
    """The same by the tuned lens."""

    def figures(self) -> tuple[list[Figure], list[Figure]]:
        """Both curves as a figure for each depth."""
        counts = {"n_tokens": self.n_tokens, "n_prompts": self.n_documents}
        first, second = (
            [
                Figure(value=value, low=low, high=high, **counts)
                for value, low, high in zip(curve.value, curve.low, curve.high, strict=True)
            ]
            for curve in (self.kl_logit, self.kl_tuned)
        )
        return first, second

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        curves = {name: getattr(self, name).as_json() for name in ("kl_logit", "kl_tuned")}
        return {**vars(self), "path": str(self.path.resolve()), **curves}


def default_folder(model: LoadedModel, workload: Workload, options: TraceOptions) -> Path:
    """`exitbench-out/MODEL-WORKLOAD` below the working directory, with what differs from the default options."""
    deciding = [f for f in fields(options) if f.name not in ("memory", "precision")]
    changed = [f"{f.name}={_text(value)}" for f in deciding if (value := getattr(options, f.name)) != f.default]
    changed = [f"{f.name}={_shown(value)}" for f in deciding if (value := getattr(options, f.name)) != f.default]
    looks = [] if options.precision is None else ["looks"]  # a finer precision goes on in the same folder
    parts = [model.source.name, workload.name, *looks, *changed]
    return Path("exitbench-out") / "-".join(map(_file_name, parts))


def _text(value: object) -> str:
    """An option's value as part of a folder's name."""
    return ".".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _shown(value: object) -> str:
    """A value of an option in a name: of a lens without its folders."""
    text = str(value)
    return TUNED + Path(text).stem if text.startswith(TUNED) else text


def trace(
    model: LoadedModel | str,
    workload: Workload | str = "mini",
    *,
    out: Path | str,
    options: TraceOptions | None = None,
    command: str = "",
    progress: Progressor = SILENT,
) -> Trace:
    """Trace a model on a workload into the folder `out`, or finish a trace that was begun there.

    Args:
        model: loaded, or what `load` takes.
        workload: loaded, or a name, file or `hub:` id.
        out: trace folder.
        options: what is counted and how.
        command: recorded as what made the trace.
        progress: where to show bars.

    Raises:
        ExitbenchError: one of its kinds, each with one line for people.
    """
    loaded = load(model, progress=progress) if isinstance(model, str) else model
    prompts = load_workload(workload) if isinstance(workload, str) else workload
    options = options or TraceOptions()
    collect(
        loaded,
        prompts,
        Path(out),
        options=options,
        stopping=None if options.precision is None else Looks(options.precision, seed=options.seed),
        command=command,
        progress=progress,
    )
    return read_trace(Path(out))


def lens(
    model: LoadedModel | str,
    workload: Workload | str,
    *,
    out: Path | str,
    options: LensOptions | None = None,
    progress: Progressor = SILENT,
) -> TrainedLens:
    """Train a tuned lens on a text into the file `out`, or finish a training that was begun there.

    Args:
        model: loaded, or what `load` takes.
        workload: loaded, or a name, file or `hub:` id; of prompts, what the user says is the text.
        out: a file ending in .safetensors, for `TraceOptions(readout="tuned:FILE")`.
        options: how.
        progress: where to show bars.

    Raises:
        ExitbenchError: one of its kinds, each with one line for people.
    """
    path, options = Path(out), options or LensOptions()
    check_lens_file(path)
    loaded = load(model, progress=progress) if isinstance(model, str) else model
    text = load_workload(workload) if isinstance(workload, str) else workload
    length = min(options.document_tokens, loaded.context_length or options.document_tokens)
    _, documents = cut_into_documents(loaded.tokenizer, text, length)
    plan = make_plan([len(document) for document in documents], tokens=options.tokens, seed=options.seed)
    origin = _origin(loaded, text, plan, length, options)
    with quiet_transformers(), sole_writer(path):
        start = perf_counter()
        train(loaded, documents, plan, origin, path, progress=progress)
        seconds = perf_counter() - start
        translators = translators_for(loaded, f"{TUNED}{path}")
        assert translators is not None
        held_out = [documents[index] for index in plan.held_out]
        kl_logit, kl_tuned = _divergences(loaded, translators, held_out, options.seed, progress)
    return TrainedLens(
        path=path,
        name=translators.name,
        steps=len(plan.steps),
        tokens=plan.tokens,
        seconds=seconds,
        n_tokens=sum(map(len, held_out)),
        n_documents=len(held_out),
        kl_logit=kl_logit,
        kl_tuned=kl_tuned,
    )


def check_lens_file(path: Path) -> None:
    """Refuse a file that no lens can be trained into.

    Raises:
        LensError: it is there already, or has another ending.
    """
    if path.suffix != ".safetensors":
        raise LensError(f"--out is {path}, expected a file ending in .safetensors")
    if path.exists():
        raise LensError(f"{path} exists and is not overwritten; choose another --out, or delete it")


def _origin(loaded: LoadedModel, text: Workload, plan: Plan, document_tokens: int, options: LensOptions) -> Origin:
    source = loaded.source
    return Origin(
        model=source.name,
        weights_sha256=source.weights_sha256,
        config_sha256=source.config_sha256,
        revision=source.revision,
        num_blocks=loaded.adapter.num_blocks,
        hidden_size=loaded.adapter.hidden_size,
        workload=text.name,
        workload_sha256=text.sha256,
        document_tokens=document_tokens,
        tokens=plan.tokens,
        steps=len(plan.steps),
        learning_rate=options.learning_rate,
        seed=options.seed,
        dtype=str(loaded.model.dtype).removeprefix("torch."),
        device=loaded.model.device.type,
        libraries=library_versions(),
    )


def _divergences(
    loaded: LoadedModel,
    translators: Translators,
    documents: Sequence[Sequence[int]],
    seed: int,
    progress: Progressor,
) -> list[Curve]:
    """Mean KL from the final distribution by depth, by the logit lens and by the tuned one; documents are resampled."""
    totals: list[list[Any]] = [[], []]
    with progress.bar("Measuring it on documents held out", len(documents)) as advance:
        for document in documents:
            ids = torch.tensor([document], device=loaded.model.device)
            hidden_LRD = loaded.adapter.capture(ids)
            for total, read_LRD in zip(totals, (hidden_LRD, translators(hidden_LRD)), strict=True):
                signals = compute_signals(hidden_LRD, ids[0].to(hidden_LRD.device), loaded.readout, read_LRD=read_LRD)
                total.append(signals["kl_final"].sum(axis=0, dtype=np.float64))
            advance(1)
    tokens = np.array([len(document) for document in documents], dtype=np.float64)
    rng = np.random.default_rng(seed)
    bootstrap = Bootstrap(weights=draw_weights([""] * len(documents), draws=DRAWS, rng=rng))
    depths = range(loaded.adapter.num_blocks + 1)
    return [bootstrap.mean(np.stack(total), tokens).curve("depth", depths) for total in totals]


def score(source: Trace | Path | str, *, seed: int | None = None, skip_corrupt: bool = False) -> ScoreCard:
    """Score a trace, in memory or in a folder; the seed is the trace's own unless another is given."""
    traced = source if isinstance(source, Trace) else read_trace(Path(source), skip_corrupt=skip_corrupt)
    return score_trace(traced, seed=traced.manifest.settings.seed if seed is None else seed)


def policies_named(traced: Trace, names: Sequence[str], *, probes: Sequence[str] = ()) -> list[ExitPolicy]:
    """Exit policies by name, each at every one of the probe schedules, or from files.

    Of a file come the probe depths and what was fitted. Its threshold does not: a replay chooses thresholds anew, on
    other prompts than it judges them by. So files that differ in nothing else give one policy.

    Args:
        traced: of the model they are for.
        names: of policies, or JSON files; every policy that the trace allows if there are none.
        probes: schedules, see `Schedule.parse`; every depth and three learned ones if there are none.
    """
    schedules = tuple(probes) or SCHEDULES
    if not names:
        return zoo(traced, schedules)
    policies: list[ExitPolicy] = []
    for name in names:
        if name.endswith(".json"):
            saved = read_policy(Path(name), num_blocks=traced.num_blocks)
            policies.append(saved.model_copy(update={"threshold": None}))
        else:
            policies += at_schedules(POLICIES.get(name), schedules)
    return [policy for index, policy in enumerate(policies) if policy not in policies[:index]]


def replay(
    source: Trace | Path | str,
    policies: Sequence[ExitPolicy] | None = None,
    *,
    options: ReplayOptions | None = None,
    command: str = "",
    progress: Progressor = SILENT,
) -> Replay:
    """Compare exit policies on a trace, in memory or in a folder; every one that it allows if none are given."""
    traced = source if isinstance(source, Trace) else read_trace(trace_folder(Path(source)))
    return replay_trace(traced, policies, options=options, command=command, progress=progress)


def save_policies(
    traced: Trace, policies: Sequence[ExitPolicy], folder: Path | str, *, options: ReplayOptions | None = None
) -> list[Path]:
    """Calibrate policies on all prompts of a trace and write one file for each of them and target."""
    written = []
    for policy, target, ready in calibrate(traced, policies, options or ReplayOptions()):
        parts = (policy.name, policy.schedule.text, target.procedure, target.risk, f"{target.eps:g}")
        file = Path(folder) / ("_".join(part.replace(",", "-") for part in parts) + ".json")
        write_policy(file, ready)
        written.append(file)
    return written


def trace_folder(path: Path) -> Path:
    """The trace in the folder of a run, or the folder itself."""
    return path / "trace" if is_trace_folder(path / "trace") else path


def read_result(path: Path, *, seed: int | None = None, skip_corrupt: bool = False) -> Result:
    """Read a result to report on: the folder of a run, a trace folder (scored here), or a saved score.

    Raises:
        ReportError: none of these.
    """
    if path.is_file():
        try:
            return Result(card=ScoreCard.from_json(json.loads(path.read_text(encoding="utf-8"))), trace=None)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ReportError(f"{path} is no JSON ({error}); give the score.json of a run, or its folder") from error
    folder = trace_folder(path)
    if not is_trace_folder(folder):
        raise ReportError(f"{path} holds no result; give the folder of 'exitbench run' or 'exitbench trace'")
    traced = read_trace(folder, skip_corrupt=skip_corrupt)
    card = score(traced, seed=seed)
    saved = path / REPLAY_FILE
    replayed = _replay_beside(saved, traced, partly=skip_corrupt) if folder != path and saved.is_file() else None
    return Result(card=card, trace=traced, replay=replayed)


def _replay_beside(file: Path, traced: Trace, *, partly: bool) -> Replay:
    """The saved replay of a trace; `partly` if the trace may lack some of its tokens now."""
    try:
        replayed = Replay.from_json(json.loads(file.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ReportError(f"{file} is no JSON ({error}); delete it, or run again what wrote it") from error
    except ReportError as error:
        raise ReportError(f"{file}: {error}") from error
    there, here = traced.manifest, (replayed.model, replayed.workload, replayed.settings)
    tokens = replayed.n_tokens if partly else traced.num_tokens
    if here != (there.model, there.workload, there.settings) or replayed.n_tokens != tokens:
        raise ReportError(f"{file} is of another trace than lies beside it; delete it, or run again what wrote it")
    return replayed


def report(
    paths: Sequence[Path | str], *, out: Path | str, seed: int | None = None, skip_corrupt: bool = False
) -> Path:
    """Write one self-contained HTML page on the results at `paths` to the file `out`, and return its path."""
    results = [read_result(Path(path), seed=seed, skip_corrupt=skip_corrupt) for path in paths]
    return write_report(results, Path(out))


def run(
    model: LoadedModel | str = DEMO_MODEL,
    workload: Workload | str = "mini",
    *,
    out: Path | str | None = None,
    options: TraceOptions | None = None,
    command: str = "",
    progress: Progressor = SILENT,
) -> Run:
    """The main job: trace, score, replay and report.

    Args:
        model: loaded, or what `load` takes; the demo model if left out.
        workload: loaded, or a name, file or `hub:` id.
        out: folder for `trace/`, `score.json`, `replay.json`, `card.md` and `report.html`; named after model and
            workload if left out.
        options: what is counted and how.
        command: recorded as what made the trace.
        progress: where to show bars.
    """
    options = options or TraceOptions()
    loaded = load(model, progress=progress) if isinstance(model, str) else model
    prompts = load_workload(workload) if isinstance(workload, str) else workload
    folder = Path(out) if out is not None else default_folder(loaded, prompts, options)
    traced = trace(loaded, prompts, out=folder / "trace", options=options, command=command, progress=progress)
    card = score(traced)
    write_json(folder / "score.json", card.to_json())
    replayed = _replay_of_run(traced, folder / REPLAY_FILE, command, progress)
    write_text(folder / "card.md", markdown_card(card, replayed))
    page = write_report([Result(card=card, trace=traced, replay=replayed)], folder / "report.html")
    return Run(folder=folder, trace=traced, card=card, replay=replayed, report=page)


def _replay_of_run(traced: Trace, file: Path, command: str, progress: Progressor) -> Replay | None:
    """Every policy that the trace allows at the default options, written to a file; nothing where none can be held."""
    if why := why_no_replay(traced):
        progress.say(f"exit policies are not replayed: {why}")
        file.unlink(missing_ok=True)  # of an earlier run, with other prompts
        return None
    options = ReplayOptions(seed=traced.manifest.settings.seed)
    replayed = replay_trace(traced, options=options, command=command, progress=progress)
    write_json(file, replayed.to_json())
    return replayed


def profile(
    model: LoadedModel | str,
    *,
    out: Path | str | None = None,
    options: ProfileOptions | None = None,
    command: str = "",
    progress: Progressor = SILENT,
) -> MeasuredProfile:
    """Time a model's blocks, readout and state completion on this machine, and write the profile as JSON.

    Args:
        model: loaded, or what `load` takes.
        out: the file; `default_profile_file` if left out.
        options: what is timed.
        command: recorded as what measured it.
        progress: where to show bars.
    """
    options = options or ProfileOptions()
    loaded = load(model, progress=progress) if isinstance(model, str) else model
    measured = measure_profile(loaded, options=options, command=command, progress=progress)
    write_profile(measured, Path(out) if out is not None else default_profile_file(loaded))
    return measured


def default_profile_file(model: LoadedModel) -> Path:
    """`exitbench-out/profile-MODEL.json` below the working directory."""
    return Path("exitbench-out") / f"profile-{_file_name(model.source.name)}.json"


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.=-]+", "_", text).strip(".")
