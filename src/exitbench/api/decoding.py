"""Real early-exit decoding of a workload, and what it showed."""

from pathlib import Path
from typing import Any

from exitbench.config import DecodeOptions
from exitbench.decode.collect import decode_workload
from exitbench.decode.result import Decoding, summarise
from exitbench.decode.tasks import require_packages
from exitbench.errors import DecodeError
from exitbench.models.load import LoadedModel, load
from exitbench.policies import POLICIES, ExitPolicy, Schedule
from exitbench.policies.builtin import ORACLES
from exitbench.policies.files import policy_from_json, read_policy
from exitbench.progress import SILENT, Progressor
from exitbench.workloads import Workload, load_workload

__all__ = ["decode", "policy_to_decode"]


def policy_to_decode(
    model: LoadedModel, named: str, *, threshold: float | None = None, probes: str | None = None
) -> ExitPolicy:
    """A policy ready for decoding, from what was typed.

    Args:
        model: that it is for.
        named: name of a policy, or a policy file.
        threshold: of a policy by name, needed there; of a file, in place of its own.
        probes: its probe depths, as `Schedule.parse` reads them.

    Raises:
        ExitbenchError: no such policy, one that looks ahead, or one without a threshold.
    """
    num_blocks = model.adapter.num_blocks
    if named in {oracle.name for oracle in ORACLES}:
        raise DecodeError(f"policy {named!r} looks into the future, so it can be replayed and not decoded")
    changes: dict[str, Any] = {} if probes is None else {"schedule": Schedule.parse(probes)}
    if named.endswith(".json"):
        policy = read_policy(Path(named), num_blocks=num_blocks)
    else:
        policy = POLICIES.get(named)()
        if threshold is None:
            grid = policy.grid(num_blocks)
            raise DecodeError(
                f"policy {named!r} needs a --threshold, {grid[0]:g} (loose) to {grid[-1]:g} (strict); or calibrate one "
                "on a trace with 'exitbench replay TRACE --save-policies DIR', and give the file as --policy"
            )
    if threshold is not None:
        changes["threshold"] = threshold
    return policy_from_json(policy.model_copy(update=changes).to_json(), num_blocks=num_blocks)


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
    require_packages((sample.category, sample.reference) for sample in prompts.samples)
    decode_workload(loaded, prompts, policy, Path(out), options=options, command=command, progress=progress)
    return summarise(Path(out), run_code=options.run_code)
