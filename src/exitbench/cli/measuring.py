"""The commands that load a model: run, trace, lens, profile, check."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from exitbench.cli.printing import (
    STDOUT,
    command_line,
    fail_if_samples_failed,
    print_json,
    progress_on_stderr,
    table_of,
)
from exitbench.errors import ExitbenchError
from exitbench.options import (
    JsonOption,
    LensGroup,
    LoadGroup,
    ModelArgument,
    QuietOption,
    TraceGroup,
    WorkloadOption,
    grouped,
    parse_numbers,
)
from exitbench.progress import Progressor

# torch and transformers take seconds to import, so commands import what they need.
__all__ = ["check", "lens", "profile", "run", "trace"]


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

    progress = progress_on_stderr(quiet)
    prompts = api.load_workload(workload)
    loaded = loading.load(model, progress=progress)
    result = api.run(loaded, prompts, out=out, options=options, command=command_line(), progress=progress)
    if as_json:
        print_json(result.card.to_json())
    else:
        STDOUT.print(terminal_card(result.card))
        STDOUT.print(Text(f"report: {result.report.resolve()}"), soft_wrap=True)
    fail_if_samples_failed(result.trace)


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

    progress = progress_on_stderr(quiet)
    prompts = api.load_workload(workload)
    loaded = loading.load(model, progress=progress)
    folder = out or api.default_folder(loaded, prompts, options) / "trace"
    traced = api.trace(loaded, prompts, out=folder, options=options, command=command_line(), progress=progress)
    summary = {
        "trace": str(folder.resolve()),
        "n_tokens": traced.num_tokens,
        "n_samples": len(traced.samples),
        "failures": [asdict(failure) for failure in traced.failures],
    }
    if as_json:
        print_json(summary)
    else:
        text = f"{traced.num_tokens} tokens of {len(traced.samples)} samples in {folder.resolve()}"
        STDOUT.print(Text(text), soft_wrap=True)
    fail_if_samples_failed(traced)


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

    progress = progress_on_stderr(quiet)
    api.check_lens_file(out)
    prompts = api.load_workload(workload)
    loaded = loading.load(model, progress=progress)
    trained = api.lens(loaded, prompts, out=out, options=options, progress=progress)
    if as_json:
        print_json(trained.to_json())
        return
    logit, tuned = trained.figures()
    lenses = zip(logit, tuned, strict=True)
    STDOUT.print(
        table_of([{"depth": d, "logit lens": a.text(), "this lens": b.text()} for d, (a, b) in enumerate(lenses)])
    )
    text = (
        f"KL from the final distribution, nats, mean over {trained.n_tokens} tokens of {trained.n_documents} documents "
        f"held out; trained on {trained.tokens} tokens\nlens: {trained.path.resolve()}"
    )
    STDOUT.print(Text(text), soft_wrap=True)


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
    progress = progress_on_stderr(quiet)
    loaded = loading.load(model, progress=progress)
    file = out or api.default_profile_file(loaded)
    measured = api.profile(loaded, out=file, options=options, command=command_line(), progress=progress)
    if as_json:
        print_json(measured.model_dump(mode="json"))
    else:
        STDOUT.print(profile_table(measured))
        STDOUT.print(Text(f"profile: {file.resolve()}"), soft_wrap=True)


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
        _check_all(progress_on_stderr(quiet), as_json=as_json)
        return
    from exitbench.report.anatomy import anatomy_table, paths_table

    loaded = loading.load(model, progress=progress_on_stderr(quiet), require=False)
    paths, shape = asdict(loaded.adapter.paths), loaded.shape.model_dump(mode="json")
    checks = [{**asdict(result), "passed": result.passed} for result in loaded.checks]
    if as_json:
        print_json({"paths": paths, "checks": checks, "shape": shape})
    else:
        for table in (paths_table(paths), table_of(checks), anatomy_table(loaded.shape)):
            STDOUT.print(table)
    if not all(check["passed"] for check in checks if check["required"]):
        raise typer.Exit(1)


def _check_all(progress: Progressor, *, as_json: bool) -> None:
    """Print the matrix; exit code 1 if a type fails for another reason than those known."""
    from exitbench.matrix import check_all

    rows = [asdict(row) for row in check_all(progress=progress)]
    if as_json:
        print_json(rows)
    else:
        shown = ("model_type", "passed", "kind", "blocks", "decode", "lossless", "decode_reason", "cause", "reason")
        STDOUT.print(table_of([{name: row[name] for name in shown} for row in rows]))
        decoded = sum(bool(row["decode"]) for row in rows)
        STDOUT.print(f"{sum(row['passed'] for row in rows)} of {len(rows)} types pass, {decoded} can be decoded")
    if not all(row["passed"] or row["cause"] for row in rows):
        raise typer.Exit(1)
