"""MaxSkip, measured: tasks of lm-evaluation-harness by the full model and by the model cut off at fixed depths.

Every depth is a whole run of the tasks by the harness, with real early exit: all answer tokens, or all tokens of the
given continuations, leave there, prompts run through all blocks, and the blocks behind get their state as in any
decoding. What is compared, and how, stands in `exitbench.score.maxskip`.

Design choices: one metric a task, the first that is a number from 0 to 1 for every document and better when higher,
with the task's first filter, unless one is named. Documents and prompts of all runs must be the same, by their hashes.

Non-goals: depths that differ between tokens (that is what policies are for), metrics that exist for whole tasks alone.
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from exitbench.env import library_versions
from exitbench.errors import ExitbenchError, UnknownNameError
from exitbench.harness.model import ExitLM
from exitbench.models.load import LoadedModel
from exitbench.policies.static import FixedDepth
from exitbench.progress import SILENT, Progressor
from exitbench.score.maxskip import DRAWS, Graded, MaxSkipCard, TaskSkip, pooled, task_skip
from exitbench.trace.decided import remaining_costs

__all__ = ["MaxSkipOptions", "default_depths", "max_skip"]

SKIPPED = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
"""Shares of the blocks skipped by default, after one block and two: more where answers still survive it."""


@dataclass(frozen=True, kw_only=True)
class MaxSkipOptions:
    """How MaxSkip is measured."""

    depths: tuple[int, ...] | None = None
    """To cut at, in any order; None for `default_depths`."""
    state: Literal["deferred", "copy"] = "deferred"
    """How skipped blocks get their state."""
    metric: str | None = None
    """NAME, or NAME,FILTER as the harness prints it; None for each task's first."""
    limit: int | None = None
    """First documents of each task; None for all."""
    num_fewshot: int | None = None
    """Examples in each prompt; None for what the task says."""
    chat_template: bool = False
    """Put prompts into the model's chat template."""
    include_path: Path | None = None
    """Folder with task files of one's own."""
    batch: int = 1
    """Prompts answered at once."""
    seed: int = 0
    """Of the bootstrap."""

    def __post_init__(self) -> None:
        for name, least in (("limit", 1), ("num_fewshot", 0), ("batch", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ExitbenchError(f"--{name.replace('_', '-')} is {value}, expected at least {least}")
        if self.include_path is not None and not self.include_path.is_dir():
            raise ExitbenchError(f"--include-path is {self.include_path}, expected a folder with task files")


def default_depths(num_blocks: int) -> tuple[int, ...]:
    """About 8 depths from L - 1 down to half of L, closer together the fewer blocks they skip."""
    skipped = {1, 2, *(round(share * num_blocks) for share in SKIPPED)}
    return tuple(num_blocks - count for count in sorted(skipped) if 0 < count < num_blocks)


def max_skip(
    loaded: LoadedModel,
    tasks: Sequence[str],
    *,
    options: MaxSkipOptions | None = None,
    command: str = "",
    progress: Progressor = SILENT,
) -> MaxSkipCard:
    """Run tasks at full depth and at fixed depths, and say what the largest harmless cut is.

    Args:
        loaded: a proved model.
        tasks: names or groups of the harness, or of files in `include_path`.
        options: how.
        command: recorded as what measured it.
        progress: where to show bars.

    Raises:
        UnknownNameError: no such task.
        ExitbenchError: a depth that the model does not have, or a task without a metric that can be compared.
    """
    options = options or MaxSkipOptions()
    num_blocks = loaded.shape.num_blocks
    depths = sorted(set(options.depths or default_depths(num_blocks)), reverse=True)
    if not depths or not 0 < depths[-1] <= depths[0] < num_blocks:
        raise ExitbenchError(
            f"--depths has {', '.join(map(str, depths)) or 'none'}, expected depths from 1 to {num_blocks - 1} in a "
            f"model of {num_blocks} blocks"
        )
    with redirect_stdout(sys.stderr):  # tasks and libraries print what they like
        manager = TaskManager(include_path=options.include_path)
    _require_known(tasks, manager)
    full = FixedDepth()
    lm = ExitLM(loaded, policy=full, state=options.state, batch_size=options.batch, progress=progress)
    graded: list[list[Graded]] = []
    for number, depth in enumerate([num_blocks, *depths], start=1):
        progress.say(f"depth {depth}, {number} of {len(depths) + 1}")
        if depth < num_blocks:
            lm = ExitLM(
                loaded,
                policy=full.model_copy(update={"threshold": float(depth)}),
                state=options.state,
                batch_size=options.batch,
                abilities=lm.decoder.abilities,
                progress=progress,
            )
        metrics = {one.task: one.metric for one in graded[0]} if graded else {}
        graded.append(_run(lm, tasks, manager, metrics, options))
        _require_same_documents(graded[0], graded[-1])
    rho = remaining_costs(loaded.shape.block_costs)

    def compared(runs: Sequence[Graded]) -> TaskSkip:
        return task_skip(runs[0], list(zip(depths, runs[1:], strict=True)), rho=rho, seed=options.seed)

    results = [compared(runs) for runs in zip(*graded, strict=True)]
    if len(results) > 1 and len({result.metric for result in results}) == 1:
        results.append(compared([pooled(run) for run in graded]))
    return MaxSkipCard(
        model=loaded.source.name,
        source=loaded.source.spec,
        weights_sha256=loaded.source.weights_sha256,
        dtype=str(loaded.model.dtype).removeprefix("torch."),
        device=loaded.model.device.type,
        attention=str(loaded.model.config._attn_implementation),
        state=options.state,
        num_blocks=num_blocks,
        limit=options.limit,
        num_fewshot=options.num_fewshot,
        chat_template=options.chat_template,
        seed=options.seed,
        draws=DRAWS,
        command=command,
        libraries=library_versions(),
        tasks=tuple(results),
    )


def _require_known(tasks: Sequence[str], manager: Any) -> None:
    for task in tasks:
        if not manager.match_tasks([task]):
            raise UnknownNameError(
                f"unknown task {task!r}; 'exitbench lm-eval ls tasks' lists those of the harness, --include-path adds "
                "yours"
            )


def _run(
    lm: ExitLM, tasks: Sequence[str], manager: Any, metrics: Mapping[str, str], options: MaxSkipOptions
) -> list[Graded]:
    """Let the harness run the tasks, and take from its samples what each document scored."""
    with redirect_stdout(sys.stderr):
        results = simple_evaluate(
            model=lm,
            tasks=list(tasks),
            task_manager=manager,
            limit=options.limit,
            num_fewshot=options.num_fewshot,
            apply_chat_template=options.chat_template,
            bootstrap_iters=0,
            log_samples=True,
        )
    assert results is not None
    return [
        _graded(task, samples, metrics.get(task, options.metric), results["higher_is_better"][task], lm)
        for task, samples in results["samples"].items()
    ]


def _graded(
    task: str, samples: Sequence[Mapping[str, Any]], metric: str | None, better: Mapping[str, bool | None], lm: ExitLM
) -> Graded:
    """Scores of a task's documents by one metric.

    Raises:
        ExitbenchError: the metric does not exist, or is no number from 0 to 1, higher being better, for each document.
    """
    choices: dict[str, list[Mapping[str, Any]]] = {}
    for sample in samples:
        for name in sample["metrics"]:
            choices.setdefault(f"{name},{sample['filter']}", []).append(sample)
    usable = [
        choice
        for choice, rows in choices.items()
        if better.get(_name(choice)) and all(_is_share(row[_name(choice)]) for row in rows)
    ]
    fitting = [choice for choice in usable if metric is None or metric in (choice, _name(choice))]
    if not fitting:
        wanted = "no metric" if metric is None else f"no metric {metric!r}"
        raise ExitbenchError(
            f"task {task!r} has {wanted} that is a number from 0 to 1 for each document, higher being better; of "
            f"{', '.join(choices)} {', '.join(usable) or 'none'} can be used"
        )
    rows = sorted(choices[fitting[0]], key=lambda row: int(row["doc_id"]))
    return Graded(
        task=task,
        metric=fitting[0],
        documents=tuple((task, int(row["doc_id"]), row["doc_hash"], row["prompt_hash"]) for row in rows),
        scores=tuple(float(row[_name(fitting[0])]) for row in rows),
        tokens=tuple(lm.tallies[task, int(row["doc_id"])].tokens for row in rows),
    )


def _name(choice: str) -> str:
    """Of a metric, without its filter."""
    return choice.split(",")[0]


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _require_same_documents(full: Sequence[Graded], cut: Sequence[Graded]) -> None:
    for one, other in zip(full, cut, strict=True):
        if one.documents != other.documents:
            raise ExitbenchError(
                f"task {one.task!r} asks something else each time it is run; it cannot be compared in pairs"
            )
