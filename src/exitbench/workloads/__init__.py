"""Workloads: named, versioned lists of prompts or texts.

`load_workload` is the one way in; `WORKLOADS` holds the built-in ones and those of plug-ins.
"""

from exitbench.workloads.builtin import WORKLOADS
from exitbench.workloads.load import load_workload
from exitbench.workloads.workload import Kind, Sample, Workload

__all__ = ["WORKLOADS", "Kind", "Sample", "Workload", "load_workload"]
