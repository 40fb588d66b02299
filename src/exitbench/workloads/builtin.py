"""The registry of workloads, and `mini`, the one that comes with the package.

`mini` was written for this project: 126 prompts, 21 in each of six categories, none taken from another
benchmark. A change to any of them is a new version.
"""

from collections.abc import Callable
from importlib.resources import files

from exitbench.registry import Registry
from exitbench.workloads.files import parse_jsonl
from exitbench.workloads.workload import Workload

__all__ = ["WORKLOADS"]

WORKLOADS: Registry[Callable[[], Workload]] = Registry("workload")
"""Loaders by name; plug-ins add theirs through the entry-point group `exitbench.workloads`."""


def _mini() -> Workload:
    data = files("exitbench.workloads").joinpath("mini.jsonl").read_bytes()
    kind, samples = parse_jsonl(data, source="mini.jsonl")
    return Workload(name="mini", version="1.0", licence="Apache-2.0", kind=kind, samples=samples)


WORKLOADS.add("mini", _mini)
