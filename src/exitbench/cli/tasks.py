"""The commands that run tasks of lm-evaluation-harness: maxskip, lm-eval."""

import io
from contextlib import nullcontext, redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from exitbench.cli.printing import command_line, print_json, print_wide, progress_on_stderr
from exitbench.errors import ExitbenchError
from exitbench.options import JsonOption, LoadGroup, ModelArgument, QuietOption, grouped, parse_numbers

__all__ = ["PASS_ON", "lm_eval", "maxskip"]

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""Context settings of a command that hands all its arguments to another one's parser."""


@grouped
def maxskip(
    model: ModelArgument,
    tasks: Annotated[str, typer.Option(help="Tasks or groups of lm-evaluation-harness: NAME[,NAME..].")],
    include_path: Annotated[Path | None, typer.Option(help="Folder with task files of your own.")] = None,
    depths: Annotated[
        str | None, typer.Option(help="Depths to cut at: D,D,..", show_default="about 8 from L / 2 to L - 1")
    ] = None,
    state: Annotated[
        Literal["deferred", "copy"], typer.Option(help="How skipped blocks get their state: exactly, or by a copy.")
    ] = "deferred",
    metric: Annotated[
        str | None, typer.Option(help="NAME or NAME,FILTER of lm-evaluation-harness.", show_default="each task's first")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="First documents of each task.")] = None,
    num_fewshot: Annotated[
        int | None, typer.Option(help="Examples in each prompt.", show_default="what the task says")
    ] = None,
    chat_template: Annotated[bool, typer.Option(help="Use the model's chat template.")] = False,
    batch: Annotated[int, typer.Option(min=1, help="Prompts answered at once.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    *,
    loading: LoadGroup,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """The largest fixed cut for all answer tokens that costs a task no more than 1 or 5 points."""
    _require_harness()
    progress = progress_on_stderr(quiet)
    with redirect_stderr(io.StringIO()) if quiet else nullcontext():  # the harness shows bars of its own
        from exitbench.harness.maxskip import MaxSkipOptions, max_skip
        from exitbench.report.maxskip import maxskip_tables

        options = MaxSkipOptions(
            depths=None if depths is None else parse_numbers("--depths", depths),
            state=state,
            metric=metric,
            limit=limit,
            num_fewshot=num_fewshot,
            chat_template=chat_template,
            include_path=include_path,
            batch=batch,
            seed=seed,
        )
        loaded = loading.load(model, progress=progress)
        names = [name for name in tasks.split(",") if name]
        card = max_skip(loaded, names, options=options, command=command_line(), progress=progress)
    if as_json:
        print_json(card.model_dump(mode="json"))
    else:
        print_wide(maxskip_tables(card))


def lm_eval(context: typer.Context) -> None:
    """The command line of lm-evaluation-harness, with --model exitbench (see docs/harness.md)."""
    _require_harness()
    from exitbench.harness.program import harness_main

    harness_main(context.args)


def _require_harness() -> None:
    if find_spec("lm_eval") is None:
        raise ExitbenchError("lm_eval is not installed; install it with: pip install 'exitbench[lm-eval]'")
