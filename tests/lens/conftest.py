"""A toy model, a text, and a lens of which every number is drawn."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from exitbench.lens import Origin, Translators
from exitbench.models.load import LoadedModel, load
from exitbench.models.toy import save_toy
from exitbench.workloads import Sample, Workload

TEXT = "Bees dance to tell each other where the flowers are. The dance points at the sun. " * 3


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory) -> Path:
    """A toy Llama of 3 blocks."""
    return save_toy(tmp_path_factory.mktemp("checkpoint") / "toy", num_blocks=3)


@pytest.fixture(scope="session")
def loaded(toy_folder) -> LoadedModel:
    """The toy, loaded and proved; not to be changed."""
    return load(str(toy_folder))


@pytest.fixture(scope="session")
def text() -> Workload:
    """40 texts of 246 bytes and less."""
    samples = tuple(Sample(id=str(i), category="bees", turns=(TEXT[2 * i :],)) for i in range(40))
    return Workload(name="bees", version="1", licence=None, kind="text", samples=samples)


def _origin(loaded: LoadedModel, **changes: object) -> Origin:
    """Of a lens for that model, made of nothing."""
    values = {
        "model": loaded.source.name,
        "weights_sha256": loaded.source.weights_sha256,
        "config_sha256": loaded.source.config_sha256,
        "revision": None,
        "num_blocks": loaded.adapter.num_blocks,
        "hidden_size": loaded.adapter.hidden_size,
        "workload": "none",
        "workload_sha256": "0" * 64,
        "document_tokens": 64,
        "tokens": 1024,
        "steps": 2,
        "learning_rate": 1e-3,
        "seed": 0,
        "dtype": "float32",
        "device": "cpu",
        "libraries": {},
    }
    return Origin.model_validate(values | changes)


def _drawn(loaded: LoadedModel, *, scale: float = 0.1, **changes: object) -> Translators:
    """A lens of random numbers of that size; 0 for an untrained one."""
    blocks, width = loaded.adapter.num_blocks, loaded.adapter.hidden_size
    generator = torch.Generator().manual_seed(0)
    weights, biases = (
        scale * torch.randn(*shape, generator=generator) for shape in ((blocks, width, width), (blocks, width))
    )
    return Translators.of(weights, biases, _origin(loaded, **changes))


@pytest.fixture(scope="session")
def origin() -> Callable[..., Origin]:
    """See `_origin`."""
    return _origin


@pytest.fixture(scope="session")
def drawn() -> Callable[..., Translators]:
    """See `_drawn`."""
    return _drawn
