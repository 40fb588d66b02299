"""The commands that read what was measured: score, replay, report; and the list of what there is."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.text import Text

from exitbench.cli.printing import (
    STDERR,
    STDOUT,
    command_line,
    fail_if_samples_failed,
    print_json,
    print_wide,
    progress_on_stderr,
    table_of,
)
from exitbench.config import ReportForm
from exitbench.options import JsonOption, QuietOption, ReplayGroup, ScoreSeedOption, SkipCorruptOption, grouped

__all__ = ["list_parts", "replay", "report", "score"]


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
        print_json(documents[0] if len(documents) == 1 else documents)
    else:
        for result in results:
            STDOUT.print(terminal_card(result.card))
    fail_if_samples_failed(*(result.trace for result in results))


@grouped
def replay(
    trace: Annotated[Path, typer.Argument(help="Trace folder, or folder of a run.", metavar="TRACE")],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME of a policy, or FILE, recalibrated; may be repeated.", show_default="all that the trace allows"
        ),
    ] = None,
    probes: Annotated[
        list[str] | None,
        typer.Option(
            help="Probe depths: every, every-K, D,D,.., learned-M; may be repeated.",
            show_default="every, every-4 and learned-3",
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
    from exitbench.report.replay import TABLE_WIDTH, replay_csv, replay_tables

    traced = api.read_trace(api.trace_folder(trace))
    if category:
        traced = traced.of_categories(category)
    options = held.options(trace_seed=traced.manifest.settings.seed)
    policies = api.policies_named(traced, policy or (), probes=probes or ())
    progress = progress_on_stderr(quiet)
    result = api.replay(traced, policies, options=options, command=command_line(), progress=progress)
    if out is not None:
        write_text(out, replay_csv(result))
    if save_policies is not None:
        for file in api.save_policies(traced, policies, save_policies, options=options):
            progress.say(f"wrote {file}")
    if as_json:
        print_json(result.to_json())
    else:
        print_wide(replay_tables(result), least=TABLE_WIDTH)


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Folders of runs, traces or studies; score.json files; files of rows."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="What to write: a file; for pictures a folder.", show_default="report.FORMAT, or report-figures"
        ),
    ] = None,
    form: Annotated[
        ReportForm,
        typer.Option("--format", help="A page; a table as Markdown; every row as CSV or Parquet; pictures."),
    ] = "html",
    skip_corrupt: SkipCorruptOption = False,
    seed: ScoreSeedOption = None,
) -> None:
    """Write one self-contained HTML page, or tables or pictures, on some results."""
    from exitbench import api

    pictures = form in ("png", "svg")
    target = out or Path("report-figures" if pictures else f"report.{form}")
    done = api.report(paths, out=target, form=form, seed=seed, skip_corrupt=skip_corrupt)
    STDOUT.print(Text(str(done.path.resolve())), soft_wrap=True)
    if done.failed_cells:
        where = "exitbench report --format md" if pictures else "the report"
        STDERR.print(Text(f"{done.failed_cells} cells failed; {where} names them", style="red"))
        raise typer.Exit(1)
    fail_if_samples_failed(*done.traces)


def list_parts(
    kind: Annotated[Literal["models", "workloads", "signals", "policies"], typer.Argument()],
    as_json: JsonOption = False,
) -> None:
    """List the known models (a "?" marks a fact that was never checked), workloads, signals or exit policies."""
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
    elif kind == "policies":
        from exitbench.policies.listing import policy_rows

        rows = policy_rows()
    else:
        from exitbench.signals import SIGNALS

        signals = [SIGNALS.get(name) for name in SIGNALS]
        recorded = {True: "by default", False: "with --also"}
        rows = [
            {"name": s.name, "unit": s.unit, "recorded": recorded[s.recorded_by_default], "meaning": s.summary}
            for s in signals
        ]
    if as_json:
        print_json(rows)
    else:
        for table in tables or [rows]:
            print_wide(table_of(table))
