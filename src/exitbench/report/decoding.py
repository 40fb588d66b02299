"""Real early-exit decoding for the terminal: what it took, what it left out, what it changed, in that order."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from exitbench.decode.result import Decoding
from exitbench.decode.tasks import Metric, TaskFigures
from exitbench.plain import plain
from exitbench.policies.schedule import Schedule
from exitbench.stats.bootstrap import MIN_PROMPTS
from exitbench.stats.figure import Figure

__all__ = ["decoding_tables", "decoding_verdict"]

_METRICS: dict[Metric, str] = {
    "exact_match": "right",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
    "tests_passed": "tests passed",
}


def decoding_verdict(result: Decoding) -> str:
    """Whether it pays and what it changes, in one sentence that the figures bear."""
    same = result.identical_tokens.value
    assert same is not None
    changed = "changes no token" if same == 1 else f"{1 - same:.0%} of the positions then have another token"
    return f"{_time(result.time_ratio)}; {changed}."


def _time(ratio: Figure | None) -> str:
    if ratio is None or ratio.value is None:
        return "No time a token can be told: no answer has a second one"
    times = f"{ratio.value:.2f} times as long a token as without"
    if ratio.low is None or ratio.high is None:
        return f"Early exit took {times}; {MIN_PROMPTS} batches are needed to say how surely"
    if ratio.high < 1:
        return f"Early exit is faster here: {times}"
    if ratio.low > 1:
        return f"Early exit does not pay here: {times}"
    return f"Early exit makes no difference in time that can be told here: {times}"


def decoding_tables(result: Decoding) -> RenderableType:
    """All figures, with their intervals and counts."""
    settings = result.settings
    policy = settings.policy
    probes = Schedule.model_validate(policy["schedule"]).text
    limits = {"lossless": f", drafts of {settings.draft}", "deferred": f", {settings.most_waiting} wait", "copy": ""}
    heading = (
        f"{plain(result.model.name)} on {plain(result.workload.name)}: {policy['policy']}, threshold "
        f"{policy['threshold']}, probes {probes}, state {settings.state}{limits[settings.state]}, batch "
        f"{settings.batch} ({settings.rows}), readout {plain(settings.readout)}, {settings.dtype} on {settings.device}"
    )
    table = Table("", "value", "95 % interval", "tokens", "prompts", box=None, pad_edge=False)
    for name, figure in (
        ("time a token, over the full model's", result.time_ratio),
        ("ms a token, full model", result.full_ms_per_token),
        ("ms a token, early exit", result.exit_ms_per_token),
        ("blocks' work behind the exits", result.gross_savings),
        ("identical tokens", result.identical_tokens),
        ("identical answers", result.identical_answers),
        ("first divergence, token (median of the others)", result.first_divergence),
        ("edit distance, of the longer answer", result.edit_distance),
        ("perplexity of the full model's answers", result.full_perplexity),
        ("perplexity of these, under the full model", result.perplexity),
    ):
        if figure is not None:
            table.add_row(name, *_cells(figure))
    notes = [
        f"times rest on {result.n_batches} batches; below {MIN_PROMPTS} of these, or of prompts, there is no interval",
        f"passes of tokens through blocks, prompts included: {result.blocks_run:.2f} times those of the full model",
    ]
    if result.accepted is not None and result.tokens_per_round is not None:
        notes.append(f"drafts kept: {result.accepted:.0%}; new tokens a check: {result.tokens_per_round:.2f}")
    heading += "\n" + "\n".join(notes)
    tables: list[RenderableType] = [Text(decoding_verdict(result), style="bold"), table, Text(heading)]
    if result.tasks:
        tables.append(_tasks(result.tasks))
    return Group(*tables)


def _tasks(tasks: Sequence[TaskFigures]) -> Table:
    """How good the answers are, or why that is not known."""
    table = Table("answers against references", "full", "early exit", "difference", "answers", box=None, pad_edge=False)
    for task in tasks:
        name = f"{_METRICS[task.metric]}: {', '.join(map(plain, task.categories))}"
        if task.full is None or task.early is None or task.difference is None:
            cells = ["n/a", "n/a", task.reasons["difference"]]
        else:
            cells = [task.full.text(), task.early.text(), task.difference.text()]
        table.add_row(name, *cells, f"{task.n_answers:,}")
    return table


def _cells(figure: Figure) -> tuple[str, ...]:
    value = "n/a" if figure.value is None else f"{figure.value:.3f}"
    interval = "none" if figure.low is None or figure.high is None else f"[{figure.low:.3f}, {figure.high:.3f}]"
    return value, interval, f"{figure.n_tokens:,}", f"{figure.n_prompts:,}"
