"""The command line: parse, call `exitbench.api`, print.

Results go to standard output, everything else to standard error. Exit code 2 means a mistake in what was asked or
given, with one line that says what to do; 1 means that some samples failed.
"""

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from exitbench import __version__
from exitbench.errors import ExitbenchError
from exitbench.options import (
    JsonOption,
    LensGroup,
    LoadGroup,
    ModelArgument,
    QuietOption,
    ReplayGroup,
    ScoreSeedOption,
    SkipCorruptOption,
    TraceGroup,
    WorkloadOption,
    grouped,
    parse_numbers,
)
from exitbench.plain import plain
from exitbench.progress import Progressor

if TYPE_CHECKING:
    from exitbench.trace.table import Trace

__all__ = ["app", "main"]

# torch and transformers take seconds to import, so commands import what they need.
app = typer.Typer(
    help="How much can an LLM gain from layer-wise early exit?",
    add_completion=False,
    pretty_exceptions_enable=False,
)
_stdout, _stderr = Console(), Console(stderr=True)
# The base of all that the parser says of a command line; typer gives a name only to this one of its kinds.
_UsageError: Any = typer.BadParameter.__base__
_INTERRUPTED = 130
_LIST_WIDTH = 120


def _progress(quiet: bool) -> Progressor:
    return Progressor(None if quiet else _stderr)


def _command_line() -> str:
    return shlex.join(["exitbench", *sys.argv[1:]])


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _fail_if_samples_failed(*traces: "Trace | None") -> None:
    failures = [failure for trace in traces if trace for failure in trace.failures]
    if failures:
        n_samples = sum(len(trace.samples) for trace in traces if trace)
        text = f"{len(failures)} of {n_samples} samples failed; first: {failures[0].sample_id}: {failures[0].reason}"
        _stderr.print(Text(plain(text), style="red"), soft_wrap=True)
        raise typer.Exit(1)


@app.command()
@grouped
def run(
    model: ModelArgument = "smollm2-135m-instruct",
    workload: WorkloadOption = "mini",
    *,
    tracing: TraceGroup,
    loading: LoadGroup,
    out: Annotated[Path | None, typer.Option(help="Folder for all results.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """The main job: trace a model on a workload, score it and write a report."""
    options = tracing.options()
    from exitbench import api
    from exitbench.report import terminal_card

    progress = _progress(quiet)
    prompts = api.load_workload(workload)
    loaded = loading.load(model, progress=progress)
    result = api.run(loaded, prompts, out=out, options=options, command=_command_line(), progress=progress)
    if as_json:
        _print_json(result.card.to_json())
    else:
        _stdout.print(terminal_card(result.card))
        _stdout.print(Text(f"report: {result.report.resolve()}"), soft_wrap=True)
    _fail_if_samples_failed(result.trace)


@app.command()
@grouped
def trace(
    model: ModelArgument,
    workload: WorkloadOption = "mini",
    *,
    tracing: TraceGroup,
    loading: LoadGroup,
    out: Annotated[Path | None, typer.Option(help="Trace folder.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Record a model's signals on a workload in a trace folder; run again to resume."""
    options = tracing.options()
    from exitbench import api

    progress = _progress(quiet)
    prompts = api.load_workload(workload)
    loaded = loading.load(model, progress=progress)
    folder = out or api.default_folder(loaded, prompts, options) / "trace"
    traced = api.trace(loaded, prompts, out=folder, options=options, command=_command_line(), progress=progress)
    summary = {
        "trace": str(folder.resolve()),
        "n_tokens": traced.num_tokens,
        "n_samples": len(traced.samples),
        "failures": [asdict(failure) for failure in traced.failures],
    }
    if as_json:
        _print_json(summary)
    else:
        text = f"{traced.num_tokens} tokens of {len(traced.samples)} samples in {folder.resolve()}"
        _stdout.print(Text(text), soft_wrap=True)
    _fail_if_samples_failed(traced)


@app.command()
@grouped
def lens(
    model: ModelArgument,
    workload: Annotated[str, typer.Option(help="Text to learn on: NAME, FILE or hub:ID; of prompts, their text.")],
    out: Annotated[Path, typer.Option(help="The file to write, ending in .safetensors.")],
    *,
    training: LensGroup,
    loading: LoadGroup,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a tuned lens on a text, for --readout tuned:FILE; run again to resume."""
    options = training.options()
    from exitbench import api

    progress = _progress(quiet)
    api.check_lens_file(out)
    prompts = api.load_workload(workload)
    loaded = loading.load(model, progress=progress)
    trained = api.lens(loaded, prompts, out=out, options=options, progress=progress)
    if as_json:
        _print_json(trained.to_json())
        return
    logit, tuned = trained.figures()
    lenses = zip(logit, tuned, strict=True)
    _stdout.print(
        _table([{"depth": d, "logit lens": a.text(), "this lens": b.text()} for d, (a, b) in enumerate(lenses)])
    )
    text = (
        f"KL from the final distribution, nats, mean over {trained.n_tokens} tokens of {trained.n_documents} documents "
        f"held out; trained on {trained.tokens} tokens\nlens: {trained.path.resolve()}"
    )
    _stdout.print(Text(text), soft_wrap=True)


@app.command()
def score(
    traces: Annotated[list[Path], typer.Argument(help="Trace folders, or folders of runs.", metavar="TRACE...")],
    skip_corrupt: SkipCorruptOption = False,
    seed: ScoreSeedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the early-exit suitability of traces: cards, or JSON (a list if there are several)."""
    from exitbench.api import read_result
    from exitbench.report import terminal_card

    results = [read_result(path, seed=seed, skip_corrupt=skip_corrupt) for path in traces]
    if as_json:
        documents = [result.card.to_json() for result in results]
        _print_json(documents[0] if len(documents) == 1 else documents)
    else:
        for result in results:
            _stdout.print(terminal_card(result.card))
    _fail_if_samples_failed(*(result.trace for result in results))


@app.command()
@grouped
def replay(
    trace: Annotated[Path, typer.Argument(help="Trace folder, or folder of a run.", metavar="TRACE")],
    policy: Annotated[
        list[str] | None,
        typer.Option(help="NAME or FILE of a policy; may be repeated.", show_default="all that the trace allows"),
    ] = None,
    probes: Annotated[
        list[str] | None,
        typer.Option(
            help="Probe depths: every, every-K, D,D,.., learned-M; may be repeated.",
            show_default="every and learned-3",
        ),
    ] = None,
    category: Annotated[
        list[str] | None, typer.Option(help="Only these categories of the workload; may be repeated.")
    ] = None,
    *,
    held: ReplayGroup,
    save_policies: Annotated[
        Path | None, typer.Option(help="Folder for the policies as calibrated on all prompts.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="CSV file for all rows.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compare exit policies on a trace: what they save, change and cost, by thresholds chosen on other prompts."""
    from exitbench import api
    from exitbench.files import write_text
    from exitbench.report.replay import replay_csv, replay_tables

    traced = api.read_trace(api.trace_folder(trace))
    if category:
        traced = traced.of_categories(category)
    options = held.options(trace_seed=traced.manifest.settings.seed)
    policies = api.policies_named(traced, policy or (), probes=probes or ())
    progress = _progress(quiet)
    result = api.replay(traced, policies, options=options, command=_command_line(), progress=progress)
    if out is not None:
        write_text(out, replay_csv(result))
    if save_policies is not None:
        for file in api.save_policies(traced, policies, save_policies, options=options):
            progress.say(f"wrote {file}")
    if as_json:
        _print_json(result.to_json())
    else:
        _stdout.print(replay_tables(result))


@app.command()
def report(
    paths: Annotated[list[Path], typer.Argument(help="Folders of runs or traces, or score.json files.")],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    skip_corrupt: SkipCorruptOption = False,
    seed: ScoreSeedOption = None,
) -> None:
    """Write one self-contained HTML page on some results."""
    from exitbench import api
    from exitbench.report import write_report

    results = [api.read_result(path, seed=seed, skip_corrupt=skip_corrupt) for path in paths]
    page = write_report(results, out)
    _stdout.print(Text(str(page.resolve())), soft_wrap=True)
    _fail_if_samples_failed(*(result.trace for result in results))


@app.command()
@grouped
def profile(
    model: ModelArgument,
    *,
    context: Annotated[int, typer.Option(help="Positions in the cache, the decoded token included.")] = 512,
    batches: Annotated[str, typer.Option(help="Tokens decoded at once: rising numbers from 1.")] = "1,2,4,8",
    repeats: Annotated[int, typer.Option(help="Rounds that are kept, after those that warm up.")] = 20,
    loading: LoadGroup,
    out: Annotated[
        Path | None, typer.Option(help="The JSON file.", show_default="exitbench-out/profile-MODEL.json")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Time a model's blocks, readout and state completion on this machine, for projections of time."""
    from exitbench import api
    from exitbench.report.profile import profile_table

    sizes = parse_numbers("--batches", batches)
    options = api.ProfileOptions(context=context, batches=sizes, repeats=repeats)
    progress = _progress(quiet)
    loaded = loading.load(model, progress=progress)
    file = out or api.default_profile_file(loaded)
    measured = api.profile(loaded, out=file, options=options, command=_command_line(), progress=progress)
    if as_json:
        _print_json(measured.model_dump(mode="json"))
    else:
        _stdout.print(profile_table(measured))
        _stdout.print(Text(f"profile: {file.resolve()}"), soft_wrap=True)


@app.command()
@grouped
def check(
    model: Annotated[str | None, typer.Argument(help="As for trace.")] = None,
    all_types: Annotated[
        bool, typer.Option("--all", help="Every causal model type of transformers, as a tiny instance.")
    ] = False,
    *,
    loading: LoadGroup,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show the proof that exitbench's view of a model is right, and its anatomy; exit code 1 if the proof fails."""
    if (model is None) is not all_types:
        raise ExitbenchError("check takes a MODEL or --all, one of the two; see 'exitbench check --help'")
    if model is None:
        _check_all(_progress(quiet), as_json=as_json)
        return
    from exitbench.report.anatomy import anatomy_table, paths_table

    loaded = loading.load(model, progress=_progress(quiet), require=False)
    paths, shape = asdict(loaded.adapter.paths), loaded.shape.model_dump(mode="json")
    checks = [{**asdict(result), "passed": result.passed} for result in loaded.checks]
    if as_json:
        _print_json({"paths": paths, "checks": checks, "shape": shape})
    else:
        for table in (paths_table(paths), _table(checks), anatomy_table(loaded.shape)):
            _stdout.print(table)
    if not all(check["passed"] for check in checks if check["required"]):
        raise typer.Exit(1)


def _check_all(progress: Progressor, *, as_json: bool) -> None:
    """Print the matrix; exit code 1 if a type fails for another reason than those known."""
    from exitbench.matrix import check_all

    rows = [asdict(row) for row in check_all(progress=progress)]
    if as_json:
        _print_json(rows)
    else:
        shown = ("model_type", "passed", "kind", "blocks", "cause", "reason")
        _stdout.print(_table([{name: row[name] for name in shown} for row in rows]))
        _stdout.print(f"{sum(row['passed'] for row in rows)} of {len(rows)} types pass")
    if not all(row["passed"] or row["cause"] for row in rows):
        raise typer.Exit(1)


@app.command(name="list")
def list_parts(
    kind: Annotated[Literal["models", "workloads", "signals"], typer.Argument()], as_json: JsonOption = False
) -> None:
    """List the known models (a "?" marks a fact that was never checked), workloads or signals."""
    rows: list[dict[str, Any]]
    tables = None
    if kind == "models":
        from exitbench.models.listing import model_rows, model_tables

        rows, tables = model_rows(), model_tables()
    elif kind == "workloads":
        from exitbench.workloads import WORKLOADS

        workloads = [WORKLOADS.get(name)() for name in WORKLOADS]
        rows = [
            {"name": w.name, "version": w.version, "prompts": len(w.samples), "categories": ", ".join(w.categories)}
            for w in workloads
        ]
    else:
        from exitbench.signals import SIGNALS

        signals = [SIGNALS.get(name) for name in SIGNALS]
        recorded = {True: "by default", False: "with --also"}
        rows = [
            {"name": s.name, "unit": s.unit, "recorded": recorded[s.recorded_by_default], "meaning": s.summary}
            for s in signals
        ]
    if as_json:
        _print_json(rows)
    else:
        wide = Console(width=max(_stdout.width, _LIST_WIDTH))  # names are to be read, and found by grep
        for table in tables or [rows]:
            wide.print(_table(table))


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(*rows[0].keys())
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    return table


def _cell(value: Any) -> str:
    if isinstance(value, tuple):
        return "; ".join(map(str, value))
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _version(value: bool) -> None:
    if value:
        _stdout.print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """How much can an LLM gain from layer-wise early exit?"""


def main() -> None:
    """Run the command line; the one place where errors become exit codes."""
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except _UsageError as error:
        command = error.ctx.command_path if error.ctx else "exitbench"
        message = " ".join(error.format_message().split()).rstrip(".")
        _complain(f"{message}; see '{command} --help'")
        sys.exit(2)
    except ExitbenchError as error:
        _complain(str(error))
        sys.exit(2)
    except OSError as error:  # a folder without permission, a disk that fails
        _complain(
            f"{error.filename or 'input or output'}: {error.strerror or error}; check the path and its permissions"
        )
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        _stderr.print("interrupted; a run, trace or lens resumes with the same command")
    sys.exit(code)


def _complain(message: str) -> None:
    _stderr.print(Text("error: ", style="bold red") + Text(plain(message)), soft_wrap=True)
