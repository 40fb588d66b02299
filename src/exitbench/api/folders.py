"""Where results lie if nobody says where."""

import re
from dataclasses import fields
from pathlib import Path

from exitbench.config import TUNED, DecodeOptions, TraceOptions
from exitbench.models.load import LoadedModel
from exitbench.policies import ExitPolicy
from exitbench.trace.store import is_trace_folder
from exitbench.workloads import Workload

__all__ = ["default_decode_folder", "default_folder", "default_profile_file", "trace_folder"]

OUT = Path("exitbench-out")
"""Below the working directory."""


def default_folder(model: LoadedModel, workload: Workload, options: TraceOptions) -> Path:
    """`exitbench-out/MODEL-WORKLOAD` below the working directory, with what differs from the default options."""
    changed = _changed(options, beside=("memory", "precision"))
    looks = [] if options.precision is None else ["looks"]  # a finer precision goes on in the same folder
    return OUT / "-".join(map(_file_name, [model.source.name, workload.name, *looks, *changed]))


def default_decode_folder(model: LoadedModel, workload: Workload, policy: ExitPolicy, options: DecodeOptions) -> Path:
    """`exitbench-out/decode-MODEL-WORKLOAD-POLICY` below the working directory, with what differs from the defaults."""
    threshold = "never" if policy.threshold is None else f"{policy.threshold:g}"
    names = ["decode", model.source.name, workload.name, policy.name, threshold, policy.schedule.text]
    return OUT / "-".join(map(_file_name, [*names, *_changed(options, beside=("run_code",))]))


def _changed(options: TraceOptions | DecodeOptions, *, beside: tuple[str, ...] = ()) -> list[str]:
    """The options that are not at their defaults."""
    deciding = [f for f in fields(options) if f.name not in beside]
    return [f"{f.name}={_shown(value)}" for f in deciding if (value := getattr(options, f.name)) != f.default]


def _shown(value: object) -> str:
    """An option's value as part of a folder's name: of a lens without its folders."""
    if isinstance(value, tuple):
        return ".".join(map(str, value))
    text = str(value)
    return TUNED + Path(text).stem if text.startswith(TUNED) else text


def default_profile_file(model: LoadedModel) -> Path:
    """`exitbench-out/profile-MODEL.json` below the working directory."""
    return OUT / f"profile-{_file_name(model.source.name)}.json"


def trace_folder(path: Path) -> Path:
    """The trace in the folder of a run, or the folder itself."""
    return path / "trace" if is_trace_folder(path / "trace") else path


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.=-]+", "_", text).strip(".")
