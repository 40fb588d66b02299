"""Real early-exit decoding of a workload, and what it showed."""

from pathlib import Path

from exitbench.config import DecodeOptions
from exitbench.decode.collect import decode_workload
from exitbench.decode.result import Decoding, summarise
from exitbench.models.load import LoadedModel, load
from exitbench.policies import ExitPolicy
from exitbench.progress import SILENT, Progressor
from exitbench.workloads import Workload, load_workload

__all__ = ["decode"]


def decode(
    model: LoadedModel | str,
    workload: Workload | str,
    policy: ExitPolicy,
    *,
    out: Path | str,
    options: DecodeOptions | None = None,
    command: str = "",
    progress: Progressor = SILENT,
) -> Decoding:
    """Decode a workload with early exit and in full, in turns, into the folder `out`; finish what was begun there.

    Args:
        model: loaded, or what `load` takes.
        workload: loaded, or a name, file or `hub:` id.
        policy: when tokens leave; ready for use.
        out: folder for the answers.
        options: how.
        command: recorded as what made the folder.
        progress: where to show bars.
    """
    loaded = load(model, progress=progress) if isinstance(model, str) else model
    prompts = load_workload(workload) if isinstance(workload, str) else workload
    options = options or DecodeOptions()
    decode_workload(loaded, prompts, policy, Path(out), options=options, command=command, progress=progress)
    return summarise(Path(out), run_code=options.run_code)
