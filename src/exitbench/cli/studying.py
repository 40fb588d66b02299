"""The command that measures many models on many workloads."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from exitbench.cli.printing import STDERR, STDOUT, command_line, print_json, progress_on_stderr
from exitbench.options import JsonOption, QuietOption
from exitbench.plain import plain
from exitbench.sizes import size_text

if TYPE_CHECKING:
    from exitbench.study.estimate import Forecast

__all__ = ["study"]


def study(
    spec: Annotated[Path, typer.Argument(help="YAML file: models, workloads, readouts, policies.", metavar="SPEC")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for all results.", show_default="exitbench-out/study-NAME")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be measured and roughly what it takes; write nothing.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Measure failed cells again.")] = False,
    ray: Annotated[
        str | None, typer.Option(help="Measure on a Ray cluster.", metavar="auto|HOST:PORT", show_default="here")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure many models on many workloads, cell by cell; run again to resume."""
    from exitbench import api

    progress = progress_on_stderr(quiet)
    if dry_run:
        planned = api.plan_study(spec, out=out, progress=progress)
        if as_json:
            print_json(planned.to_json())
        else:
            _print_forecast(planned)
        return
    result = api.study(spec, out=out, retry_failed=retry_failed, ray=ray, command=command_line(), progress=progress)
    if as_json:
        print_json(result.to_json())
    else:
        _say(f"{result.done} of {result.cells} cells done, {len(result.failed)} failed; {result.measured} in this run")
        if result.overhead_share is not None:
            _say(f"{result.cells_s:.1f} s in cells, {result.overhead_s:.1f} s beside them")
        if result.finding is not None:
            _say(f"claim: {result.finding.claim}")
            _say(f"{result.finding.verdict}: {result.finding.why}")
        _say(f"results: {result.folder.resolve()}")
    if result.failed:
        first = result.failed[0]
        text = f"{len(result.failed)} of {result.cells} cells failed; first: {first.name}: {first.reason}"
        STDERR.print(Text(plain(text), style="red"), soft_wrap=True)
        STDERR.print(Text("--retry-failed measures them again"), soft_wrap=True)
        raise typer.Exit(1)


def _print_forecast(planned: "Forecast") -> None:
    _say(f"{planned.cells} cells: {planned.done} done, {len(planned.failed)} failed, {len(planned.todo)} to do")
    for name in planned.todo:
        _say(f"  {name}")
    of = "" if not planned.unknown else f", without {len(planned.unknown)} models of unknown size"
    _say(f"time, roughly{of}: {_duration(planned.time_s)} at {planned.speed} speed")
    _say(f"memory, roughly{of}: {size_text(planned.memory_bytes)}")
    _say(f"download, roughly{of}: {size_text(planned.download_bytes)}")
    if planned.unknown:
        _say(f"size unknown: {', '.join(planned.unknown)}")


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def _say(text: Any) -> None:
    STDOUT.print(Text(plain(str(text))), soft_wrap=True)
