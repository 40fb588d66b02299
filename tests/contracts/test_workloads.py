"""What every registered workload promises, those of plug-ins included."""

import socket

import pytest

from exitbench.workloads import WORKLOADS, Workload, load_workload


@pytest.fixture(params=list(WORKLOADS))
def name(request):
    return request.param


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Any attempt to open a connection fails."""

    def refuse(*args, **kwargs):
        raise AssertionError("a registered workload tried to use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_known_by_its_own_name(name):
    """A workload that calls itself something else: its results could not be reproduced by name."""
    workload = load_workload(name)
    assert isinstance(workload, Workload)
    assert workload.name == name
    assert workload.licence is not None
    assert workload.version != "unversioned"


def test_same_on_every_load(name):
    """Samples shuffled, sampled or numbered anew on each load: nothing could be resumed."""
    first, second = WORKLOADS.get(name)(), WORKLOADS.get(name)()
    assert first.samples == second.samples
    assert first.sha256 == second.sha256


def test_ids_unique_and_plain(name):
    """Ids that collide or cannot be printed in one table cell."""
    ids = [sample.id for sample in load_workload(name).samples]
    assert len(set(ids)) == len(ids)
    assert all(id_.isprintable() and id_ == id_.strip() for id_ in ids)


def test_limit_covers_every_category(name):
    """A small limit that leaves whole categories out."""
    workload = load_workload(name)
    num_categories = len(workload.categories)
    limited = workload.limited(num_categories)
    assert list(limited.categories) == list(workload.categories)
    assert len(limited.samples) == num_categories
