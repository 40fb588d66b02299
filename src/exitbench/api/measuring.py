"""The jobs that need a model, and leave what was measured in a file or folder."""

from pathlib import Path

from exitbench.api.folders import default_profile_file
from exitbench.config import TraceOptions
from exitbench.models.load import LoadedModel, load
from exitbench.profiling import ProfileOptions, measure_profile
from exitbench.progress import SILENT, Progressor
from exitbench.replay.profiles import MeasuredProfile, write_profile
from exitbench.score.looks import Looks
from exitbench.trace.collect import collect
from exitbench.trace.store import read_trace
from exitbench.trace.table import Trace
from exitbench.workloads import Workload, load_workload

__all__ = ["profile", "trace"]


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
