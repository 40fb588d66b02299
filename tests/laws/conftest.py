"""Laws are checked on real tiny models that take the user's way: saved, loaded and proved, traced, read back."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from exitbench.config import TraceOptions
from exitbench.models.adapter import ModelAdapter
from exitbench.models.load import load
from exitbench.models.toy import byte_tokenizer, toy_model
from exitbench.score import ScoreCard, score
from exitbench.trace.collect import collect
from exitbench.trace.store import read_trace
from exitbench.trace.table import Trace
from exitbench.workloads import Sample, Workload

# The last products of attention and MLP, by the names that the toy families give them.
OUTPUTS = {"o_proj", "down_proj", "c_proj", "dense", "dense_4h_to_h", "out_proj", "fc2"}
TEXTS = (
    "Bees dance to tell each other where the flowers are.",
    "def add(a, b):\n    return a + b\n",
    "The quick brown fox jumps over 13 lazy dogs; then it rains.",
    "Ja, natuerlich! Wer A sagt, muss auch B sagen (1843).",
)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _trace_of(
    model: PreTrainedModel,
    texts: Sequence[str] = TEXTS,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    **options: object,
) -> Trace:
    """The trace of a model in memory, on texts unless `on="answers"`."""
    options = {"on": "text", "max_new_tokens": 8} | options
    samples = tuple(Sample(id=text, category="law", turns=(text,)) for text in texts)
    kind = "text" if options["on"] == "text" else "prompts"
    workload = Workload(name="laws", version="1", licence=None, kind=kind, samples=samples)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint"
        model.save_pretrained(checkpoint)
        (tokenizer or byte_tokenizer()).save_pretrained(checkpoint)
        collect(load(str(checkpoint)), workload, Path(folder) / "trace", options=TraceOptions(**options))
        return read_trace(Path(folder) / "trace")


def _outputs_of(blocks: Sequence[torch.nn.Module]) -> list[torch.nn.Module]:
    """The modules whose results are added to the residual stream: two a block."""
    found = [m for block in blocks for name, m in block.named_modules() if name.split(".")[-1] in OUTPUTS]
    assert len(found) == 2 * len(blocks), found
    return found


def _silence(model: PreTrainedModel, num_last: int) -> PreTrainedModel:
    """Make the last blocks the identity, in place."""
    blocks = ModelAdapter(model).blocks
    for module in _outputs_of(blocks[len(blocks) - num_last :]):
        for parameter in module.parameters():
            parameter.zero_()
    return model


@pytest.fixture(scope="session")
def trace_of() -> Callable[..., Trace]:
    """The way from a model to its trace, see `_trace_of`."""
    return _trace_of


@pytest.fixture(scope="session")
def card_of() -> Callable[[Trace], ScoreCard]:
    """The score card of a trace with few resamples: laws look at values, not at intervals."""
    return lambda trace: score(trace, draws=100)


@pytest.fixture(scope="session")
def silence() -> Callable[..., PreTrainedModel]:
    """How blocks are made the identity, see `_silence`."""
    return _silence


@pytest.fixture(scope="session")
def outputs_of() -> Callable[..., list[torch.nn.Module]]:
    """The modules that write to the residual stream, see `_outputs_of`."""
    return _outputs_of


@pytest.fixture(scope="session")
def toy_trace() -> Callable[[str], Trace]:
    """The trace of a family's toy on the texts, made once."""
    made: dict[str, Trace] = {}

    def trace(family: str) -> Trace:
        if family not in made:
            made[family] = _trace_of(toy_model(family))
        return made[family]

    return trace


@pytest.fixture(scope="session")
def naive_ees() -> Callable[[np.ndarray, Sequence[float]], float]:
    """EES as its definition reads: token by token, depth by depth."""

    def ees(top1_id: np.ndarray, block_costs: Sequence[float]) -> float:
        total = 0.0
        for ids in top1_id.tolist():
            decided = len(ids) - 1
            while decided > 0 and ids[decided - 1] == ids[-1]:
                decided -= 1
            total += sum(block_costs[decided:])
        return total / len(top1_id)

    return ees
