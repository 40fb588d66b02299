"""What does a Ray cluster cost a study, and what do two workers gain?

Seeded toy models, a cell each, one thread a cell: measured in this process, on a cluster of one node with one CPU, and
on one with two such nodes. Clusters are of this machine, so two nodes need two free cores. A study of few tokens comes
before each: connecting, and the start of Python and torch, are in no figure.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from ray.cluster_utils import Cluster

from common import print_result
from exitbench.api import study
from exitbench.models.toy import save_toy

STORE = 80 * 2**20


def write_specs(folder: Path, num_models: int, num_blocks: int, num_documents: int) -> dict[str, Path]:
    """The study, and one of few tokens that warms workers up; as JSON, which is YAML."""
    for seed in range(num_models):
        save_toy(folder / f"toy-{seed}", seed=seed, num_blocks=num_blocks)
    paths = {}
    for name, limit in {"warm": 2, "timed": num_documents}.items():
        spec = {
            "name": name,
            "settings": {"on": "text", "limit": limit, "document_tokens": 128},
            "measure": ["score", "representation"],
            "workloads": ["mini"],
            "models": [f"toy-{seed}" for seed in range(num_models)],
        }
        paths[name] = folder / f"{name}.yaml"
        paths[name].write_text(json.dumps(spec), encoding="utf-8")
    return paths


def timed(way: str, specs: dict[str, Path], folder: Path, *, workers: int = 1, address: str | None) -> dict[str, Any]:
    """The study on one cluster, or in this process: wall time, where it went, and the share of it workers were busy."""
    import ray

    if address is not None:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")  # both studies then have the same workers
    try:
        study(specs["warm"], out=folder / f"warm {way}", ray=address)
        began = time.perf_counter()
        run = study(specs["timed"], out=folder / f"timed {way}", ray=address)
        wall_s = time.perf_counter() - began
    finally:
        ray.shutdown()
    assert not run.failed, run.failed
    names = ("cells_s", "overhead_s", "overhead_share")
    figures = {name: getattr(run, name) for name in names}
    return {"way": way, "wall_s": wall_s, **figures, "busy_share": run.cells_s / (workers * wall_s)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--blocks", type=int, default=24)
    parser.add_argument("--documents", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        specs = write_specs(folder, arguments.models, arguments.blocks, arguments.documents)
        rows = [timed("here", specs, folder, address=None)]
        head = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            for workers in (1, 2):
                cluster.add_node(num_cpus=1, object_store_memory=STORE)
                cluster.wait_for_nodes()
                way = f"ray, workers: {workers}"
                rows.append(timed(way, specs, folder, workers=workers, address=cluster.address))
        finally:
            cluster.shutdown()
    _, one, two = rows
    print_result("a study on Ray", rows, {"ways": rows, "two_to_one": two["wall_s"] / one["wall_s"]})


if __name__ == "__main__":
    main()
