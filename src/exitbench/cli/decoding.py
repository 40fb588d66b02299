"""The command that decodes with early exit for real."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from exitbench.cli.printing import STDERR, STDOUT, command_line, print_json, print_wide, progress_on_stderr
from exitbench.options import (
    DecodeGroup,
    JsonOption,
    LoadGroup,
    ModelArgument,
    QuietOption,
    WorkloadOption,
    grouped,
)

__all__ = ["decode"]


@grouped
def decode(
    model: ModelArgument,
    workload: WorkloadOption = "mini",
    *,
    policy: Annotated[str, typer.Option(help="NAME of a policy, or policy FILE (.json).")],
    threshold: Annotated[
        float | None, typer.Option(help="Score from which a token leaves.", show_default="the file's own")
    ] = None,
    probes: Annotated[
        str | None, typer.Option(help="Probe depths: every, every-K, D,D,..", show_default="every, or the file's own")
    ] = None,
    decoding: DecodeGroup,
    loading: LoadGroup,
    out: Annotated[Path | None, typer.Option(help="Folder for the answers.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Generate with real early exit, against the same loop without; run again to resume."""
    options = decoding.options()
    from exitbench import api
    from exitbench.report.decoding import decoding_tables

    progress = progress_on_stderr(quiet)
    prompts = api.load_workload(workload)
    loaded = loading.load(model, progress=progress)
    ready = api.policy_to_decode(policy, num_blocks=loaded.adapter.num_blocks, threshold=threshold, probes=probes)
    folder = out or api.default_decode_folder(loaded, prompts, ready, options)
    result = api.decode(loaded, prompts, ready, out=folder, options=options, command=command_line(), progress=progress)
    if as_json:
        print_json(result.to_json())
    else:
        print_wide(decoding_tables(result))
        STDOUT.print(Text(f"answers: {folder.resolve()}"), soft_wrap=True)
    if result.failures:
        first = result.failures[0]
        text = f"{len(result.failures)} answers ended early; first: {first.sample_id}: {first.failure}"
        STDERR.print(Text(text, style="red"), soft_wrap=True)
        raise typer.Exit(1)
