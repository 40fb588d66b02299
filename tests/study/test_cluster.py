"""Joining a Ray cluster: addresses that are none, machines that differ, and a head that is lost."""

import re
import socket
import subprocess
import sys
import time

import pytest
import torch

from command_line import exitbench
from exitbench.api import study
from exitbench.errors import StudyError
from exitbench.study import cluster as cluster_module
from exitbench.study.cluster import differences, fingerprint
from toy_study import make_place, spec_of, write_spec


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    torch.set_num_threads(1)
    return make_place(tmp_path_factory.mktemp("cluster"))


def test_what_sets_machines_apart(tmp_path, monkeypatch):
    """Code, libraries or lenses of another version, which two nodes both call 0.1.0."""
    lens = tmp_path / "lens"
    here = fingerprint([str(lens)])
    assert here[str(lens)] == "missing"
    assert differences(here, here) == ""
    lens.write_text("1")
    there = fingerprint([str(lens)])
    assert differences(there, here) == f"{lens} is {there[str(lens)]} there and missing here"
    package = tmp_path / "exitbench"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(cluster_module.exitbench, "__file__", str(package / "__init__.py"))
    other = fingerprint([])
    assert other["the code of exitbench"] != here["the code of exitbench"]
    (package / "more.py").write_text("")
    assert fingerprint([]) != other


def test_without_ray(place, tmp_path, monkeypatch):
    """A traceback where the extra is not installed."""
    monkeypatch.setitem(sys.modules, "ray", None)
    outcome = exitbench("study", write_spec(place, spec_of()), "--out", tmp_path / "out", "--ray", "auto", "--quiet")
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert "pip install 'exitbench[ray]'" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:1", "nothing answers there"),
        ("no-such-host.invalid:6379", "nothing answers there"),
        ("..:6379", "nothing answers there"),
        *(
            (address, "expected 'auto' or HOST:PORT")
            for address in ("x", "", ":1", "ray://a:1", "a:0", "a:x", "a:99999")
        ),
    ],
)
def test_an_address_that_does_not_answer(place, tmp_path, address, words):
    """Minutes of waiting, a traceback, or a folder of results left behind."""
    pytest.importorskip("ray")
    began = time.monotonic()
    with pytest.raises(StudyError, match=words) as caught:
        study(write_spec(place, spec_of()), out=tmp_path / "out", ray=address)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 10
    assert not (tmp_path / "out").exists()


def test_an_address_of_something_else(place, tmp_path, monkeypatch):
    """The port of a dashboard, or any that listens, which Ray itself tries for a quarter of an hour."""
    pytest.importorskip("ray")
    monkeypatch.setattr(cluster_module, "_STATUS_S", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(StudyError, match="what answers there is no Ray cluster") as caught:
            study(write_spec(place, spec_of()), out=tmp_path / "out", ray=address)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_head_that_is_lost(place, tmp_path):
    """Waiting for ever, or an end without a word, when the head's own process is gone; cells lost with it."""
    pytest.importorskip("ray")
    psutil = pytest.importorskip("psutil")
    from ray.cluster_utils import Cluster

    spec = write_spec(place, spec_of(), "head.yaml")
    out = tmp_path / "out"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        command = [sys.executable, "-m", "exitbench", "study", spec, "--out", out, "--ray", cluster.address]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
            deadline = time.monotonic() + 120
            while not list(out.glob("cells/*.parquet")):
                assert time.monotonic() < deadline, "no cell came"
                time.sleep(0.05)
            processes = cluster.head_node.all_processes
            processes["gcs_server"][0].process.kill()
            for worker in psutil.Process(processes["raylet"][0].process.pid).children():
                if worker.name().startswith("ray::exitbench"):
                    worker.kill()  # what it had left would still come otherwise
            _, said = run.communicate(timeout=120)
    finally:
        cluster.shutdown()
    assert run.returncode == 2, said
    assert re.search(r"^error: the head of the Ray cluster, .* was lost .*$", said.strip().splitlines()[-1])
    there = len(list(out.glob("cells/*.parquet")))
    again = study(spec, out=out)
    assert (again.done, again.measured, again.failed) == (4, 4 - there, ())
