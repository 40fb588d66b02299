"""The main job: everything that can be said of a model on a workload, in one folder."""

from dataclasses import dataclass
from pathlib import Path

from exitbench.api.folders import default_folder
from exitbench.api.measuring import trace
from exitbench.api.reading import REPLAY_FILE, score
from exitbench.config import TraceOptions
from exitbench.files import write_json, write_text
from exitbench.models.load import LoadedModel, load
from exitbench.progress import SILENT, Progressor
from exitbench.replay.assemble import ReplayOptions, why_no_replay
from exitbench.replay.assemble import replay as replay_trace
from exitbench.replay.result import Replay
from exitbench.report import Result, markdown_card, write_report
from exitbench.score import ScoreCard
from exitbench.trace.table import Trace
from exitbench.workloads import Workload, load_workload

__all__ = ["Run", "run"]

DEMO_MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the main job leaves in its folder."""

    folder: Path
    trace: Trace
    card: ScoreCard
    replay: Replay | None
    """None where there is nothing to replay: a fast trace, or fewer than 10 prompts."""
    report: Path


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
