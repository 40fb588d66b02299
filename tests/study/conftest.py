"""A study of toys that ran through, for tests of what comes after."""

import shutil
from pathlib import Path

import pytest
import torch

from exitbench.api import study
from toy_study import make_place, spec_of, write_spec


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    torch.set_num_threads(1)
    return make_place(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def finished(place):
    """The folder of a study that ran through; not to be changed."""
    run = study(write_spec(place, spec_of()), out=place / "finished")
    assert (run.done, run.failed, run.measured) == (4, (), 4)
    return run.folder


@pytest.fixture
def copied(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "copied"))
