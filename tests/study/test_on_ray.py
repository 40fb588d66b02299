"""Studies on a Ray cluster: the same rows as here, whatever workers are lost, and nothing from a node that differs.

Clusters are of nodes on this machine; their tests are slow, since every worker process starts torch.
"""

import os
import threading
from dataclasses import replace

import pytest
import torch

from command_line import exitbench
from exitbench.api import study
from exitbench.errors import StudyError
from exitbench.progress import Progressor
from exitbench.study import cells as cells_module
from exitbench.study import on_ray
from exitbench.study.cells import plan
from exitbench.study.on_ray import TRIES, needs_of
from exitbench.study.spec import parse_spec
from toy_study import make_place, rows_in, spec_of, write_spec

LIMITS = range(2, 10)
MANY = [{"workload": "text.txt", "limit": limit} for limit in LIMITS]
"""Cells enough for a model to be in work for a while."""
STORE = 80 * 2**20
"""Bytes of objects that a node holds."""


class Listener(Progressor):
    """Keeps what is said, and calls back with all of it."""

    def __init__(self, hears=lambda lines: None):
        super().__init__()
        self.lines = []
        self.hears = hears

    def say(self, message):
        self.lines.append(message)
        self.hears(self.lines)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    torch.set_num_threads(1)
    return make_place(tmp_path_factory.mktemp("ray"))


@pytest.fixture(scope="module")
def cluster():
    """A head that measures nothing, and two nodes of one CPU each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False}
    running = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        running.add_node(num_cpus=1, object_store_memory=STORE)
    yield running
    running.shutdown()


@pytest.fixture(scope="module")
def joined(cluster):
    """The same, which this process is connected to, so that studies share worker processes."""
    import ray

    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()


def planned(place, **changes):
    spec = parse_spec(spec_of(**changes), "spec")
    return spec, plan(spec, place)[0].model


def test_needs_of_a_model(place):
    """A GPU model on a node without one, memory for the weights but not for the twin beside them, a spec not heard."""
    spec, model = planned(place, settings={"memory": "1MiB"})
    needs = needs_of(model, spec)
    assert (needs.cpus, needs.gpus) == (1, 0)
    weights = needs.memory - 2**20
    assert weights > 0
    twins = needs_of(model, spec.model_copy(update={"measure": ("score", "untrained")}))
    assert twins.memory == 2 * weights + 2**20
    assert needs_of(replace(model, load_from="somebody/else", hub_id=None), spec).memory == 0
    spec, model = planned(place, settings={"device": "cuda"})
    assert needs_of(model, spec).gpus == 1
    entry = {"model": "toy-0", "needs": {"gpus": 0.5, "memory": "3GiB"}}
    spec, model = planned(place, models=[entry], needs={"cpus": 2, "gpus": 4}, settings={"device": "cuda"})
    needs = needs_of(model, spec)
    assert (needs.cpus, needs.gpus, needs.memory) == (2, 0.5, 3 * 2**30)


def test_needs_decide_no_number(place):
    """Cells measured again because they are to have another CPU."""
    spec, _ = planned(place)
    more, _ = planned(place, needs={"cpus": 2})
    assert [cell.id for cell in plan(spec, place)] == [cell.id for cell in plan(more, place)]


def test_traces_are_not_kept(place, tmp_path):
    """Traces that are said to be kept, on a node that goes away."""
    with pytest.raises(StudyError, match="keep_traces does not go with --ray"):
        study(write_spec(place, spec_of(keep_traces=True), "kept.yaml"), out=tmp_path / "out", ray="auto")


@pytest.mark.slow
def test_the_same_rows_as_here(place, cluster, tmp_path, monkeypatch):
    """Figures, failures or seconds that depend on where a cell was measured; paths relative to another folder."""
    spec = spec_of(measure=["score", "representation", "untrained"], policies=["margin"])
    spec["models"] += [{"model": "hub/nowhere"}]
    write_spec(place, spec, "same.yaml")
    monkeypatch.chdir(place)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    here = study("same.yaml", out=tmp_path / "here")
    listener = Listener()
    there = study("same.yaml", out=tmp_path / "there", ray=cluster.address, progress=listener)
    assert (there.cells, there.done, there.measured) == (here.cells, here.done, here.measured) == (6, 4, 6)
    rows = rows_in(there.folder)
    assert [row for row in rows if row["source"] != "hub/nowhere"] == [
        row for row in rows_in(here.folder) if row["source"] != "hub/nowhere"
    ]
    assert {failure.name for failure in there.failed} == {failure.name for failure in here.failed}
    assert there.cells_s > 0
    assert sorted(path.name for path in there.folder.iterdir()) == sorted(path.name for path in here.folder.iterdir())
    assert sum(line.startswith("cell ") for line in listener.lines) == 6
    assert study("same.yaml", out=tmp_path / "there", ray=cluster.address).measured == 0


@pytest.mark.slow
def test_a_cell_that_loses_its_workers(place, cluster, tmp_path, capsys):
    """A model that kills its workers, and the others never measured; the reason not told; Ray's own words on stdout."""
    psutil = pytest.importorskip("psutil")
    label = f"doomed-{os.getpid()}"
    models = [{"model": "toy-0", "label": label}, "toy-1"]
    spec = write_spec(place, spec_of(models=models, workloads=["text.txt"]), "doomed.yaml")
    ended, killed = threading.Event(), set()

    def hunt():
        while not ended.wait(0.02):
            for process in psutil.process_iter(["cmdline"]):
                if f"ray::exitbench {label}" in " ".join(process.info["cmdline"] or ()) and process.pid not in killed:
                    process.kill()
                    killed.add(process.pid)

    hunter = threading.Thread(target=hunt)
    hunter.start()
    try:
        run = study(spec, out=tmp_path / "out", ray=cluster.address)
    finally:
        ended.set()
        hunter.join()
    assert (run.done, len(killed)) == (1, TRIES)
    (failure,) = run.failed
    assert f"{TRIES} workers were lost" in failure.reason
    assert capsys.readouterr() == ("", "")
    again = study(spec, out=tmp_path / "out", ray=cluster.address, retry_failed=True)
    assert (again.done, again.measured, again.failed) == (2, 1, ())


@pytest.mark.slow
def test_nodes_lost_in_the_middle(place, cluster, tmp_path):
    """Cells lost or doubled with the nodes that measured them; a wait for another node that nobody is told of."""
    spec = write_spec(place, spec_of(workloads=MANY), "many.yaml")
    told = []

    def hear(lines):
        if all(any(f": toy-{i} on" in line for line in lines) for i in range(2)) and not told:
            told.append("lost")
            for node in list(cluster.worker_nodes):
                cluster.remove_node(node, allow_graceful=False)
        if lines[-1].startswith("no node is left with room for toy-"):
            told.append("waits")
            cluster.add_node(num_cpus=1, object_store_memory=STORE)

    listener = Listener(hear)
    run = study(spec, out=tmp_path / "there", ray=cluster.address, progress=listener)
    cluster.add_node(num_cpus=1, object_store_memory=STORE)
    assert (told, run.done, run.failed) == (["lost", "waits"], 2 * len(LIMITS), ())
    assert any("a worker was lost" in line for line in listener.lines)
    here = study(spec, out=tmp_path / "here")
    assert rows_in(run.folder) == rows_in(here.folder)


@pytest.mark.slow
def test_a_node_with_other_code(place, joined, tmp_path, monkeypatch):
    """Figures of two programs in one study; results of before lost with the refusal."""
    spec = write_spec(place, spec_of(), "other.yaml")
    real = on_ray.fingerprint
    with monkeypatch.context() as patched:
        patched.setattr(on_ray, "fingerprint", lambda files: real(files) | {"exitbench": "9.9"})
        outcome = exitbench("study", spec, "--out", tmp_path / "out", "--ray", joined.address, "--quiet")
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert "differs: exitbench is " in line
    assert "there and 9.9 here" in line
    assert not (tmp_path / "out" / "cells").exists()
    assert study(spec, out=tmp_path / "out", ray=joined.address).done == 4


@pytest.mark.slow
@pytest.mark.parametrize("hash_", ["hash_weights", "hash_config"])
def test_a_node_with_other_weights(place, joined, tmp_path, monkeypatch, hash_):
    """Weights, or a tokenizer, that are others on the node than where the study was planned."""
    real = getattr(cells_module, hash_)
    monkeypatch.setattr(cells_module, hash_, lambda folder: "0" * 64 if folder.name == "toy-0" else real(folder))
    run = study(write_spec(place, spec_of(), "others.yaml"), out=tmp_path / "out", ray=joined.address)
    assert run.done == 2
    assert len(run.failed) == 2
    for failure in run.failed:
        assert failure.name.startswith("toy-0")
        assert "or are others on this machine: the study was planned for 000000000000" in failure.reason


@pytest.mark.slow
def test_a_model_too_large_for_every_node(place, joined, tmp_path):
    """A run that waits for ever for a node that is not there."""
    entry = {"model": "toy-1", "needs": {"gpus": 64}}
    spec = write_spec(place, spec_of(models=["toy-0", entry]), "large.yaml")
    with pytest.raises(StudyError, match=r"toy-1 needs 1 CPUs, 64 GPUs and .* no node of the cluster has that"):
        study(spec, out=tmp_path / "out", ray=joined.address)
