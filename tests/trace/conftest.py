"""Toy models as checkpoints, small workloads, and finished traces of them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from exitbench.config import TraceOptions
from exitbench.models.load import LoadedModel, load
from exitbench.models.toy import save_toy
from exitbench.trace.collect import collect
from exitbench.workloads import Sample, Workload

OPTIONS = TraceOptions(max_new_tokens=6, generation_batch=2)
TEXT = "Bees dance to tell each other where the flowers are. The dance points at the sun. " * 3


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory) -> Path:
    """A toy Llama of 3 blocks with a chat template."""
    return save_toy(tmp_path_factory.mktemp("checkpoint") / "toy", num_blocks=3)


@pytest.fixture(scope="session")
def loaded(toy_folder) -> LoadedModel:
    """The toy, loaded and proved; not to be changed."""
    return load(str(toy_folder))


@pytest.fixture(scope="session")
def prompts() -> Workload:
    """5 conversations of 1, 2, 1, 3 and 1 turns in 2 categories."""
    turns = [("Hi?",), ("What is 2 + 2?", "And twice that?"), ("Name a tree.",), ("A", "B", "C"), ("Why is it so?",)]
    samples = tuple(
        Sample(id=f"s{i}", category=("chat", "maths")[i % 2], turns=said, reference="4" if i == 1 else None)
        for i, said in enumerate(turns)
    )
    return Workload(name="five", version="1", licence=None, kind="prompts", samples=samples)


@pytest.fixture(scope="session")
def text() -> Workload:
    """Two texts, of 246 and of 83 bytes."""
    samples = (Sample(id="long", category="bees", turns=(TEXT,)), Sample(id="short", category="a", turns=(TEXT[:83],)))
    return Workload(name="bees", version="1", licence=None, kind="text", samples=samples)


@pytest.fixture(scope="session")
def options() -> TraceOptions:
    """Short answers, two prompts a batch."""
    return OPTIONS


@pytest.fixture(scope="session")
def finished(tmp_path_factory, loaded, prompts, options) -> Path:
    """The trace of the toy's answers; not to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "trace"
    collect(loaded, prompts, folder, options=options)
    return folder


@pytest.fixture
def copied(tmp_path, finished) -> Path:
    """A copy of the finished trace, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "copied"))


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Name -> bytes of a trace's files, but for the manifest's date."""

    def read(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}

    return read
