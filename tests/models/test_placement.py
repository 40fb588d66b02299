"""Models spread over devices, forced on one processor by limits too small for the weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.utils import OffloadedWeightsLoader
from safetensors.torch import load_file, save_file
from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

from exitbench.config import TraceOptions
from exitbench.errors import ModelError
from exitbench.models import placement
from exitbench.models.load import load
from exitbench.models.placement import placement_options, weights_wait_on
from exitbench.models.pretrained import load_pretrained
from exitbench.models.source import resolve
from exitbench.models.toy import byte_tokenizer, save_toy
from exitbench.trace.collect import collect
from exitbench.trace.generate import greedy_answers
from exitbench.trace.store import read_trace
from exitbench.workloads import load_workload

pytestmark = pytest.mark.usefixtures("cache")
# Of the Llama toy's 0.18 MB: the embeddings, which are the head too, and one block stay in memory.
LIMIT = "cpu=0.12MB"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_toy(tmp_path / "toy")


@pytest.mark.parametrize(
    ("family", "limit"), [("llama", LIMIT), ("gemma3_text", "cpu=0.15MB"), ("gpt_neox", "cpu=0.15MB")]
)
def test_numbers_do_not_depend_on_where_weights_wait(family: str, limit: str, tmp_path: Path) -> None:
    """Bug: hooks that fetch weights change what is computed, or hide modules from discovery and proof."""
    folder = save_toy(tmp_path / family, family)
    whole, spread = load(str(folder)), load(str(folder), device="auto", max_memory=limit)
    assert weights_wait_on(whole.model) == "cpu"
    assert weights_wait_on(spread.model) == "cpu+disk"
    assert spread.model._hf_hook.io_same_device is False  # logits stay on the device of the head
    assert spread.adapter.paths == whole.adapter.paths
    assert spread.shape == whole.shape
    assert spread.checks == whole.checks
    ids = torch.tensor([[5, 9, 200, 3, 77]])
    hidden = spread.adapter.capture(ids)
    assert torch.equal(hidden, whole.adapter.capture(ids))
    for depth in range(5):
        assert torch.equal(spread.adapter.readout(hidden[depth]), whole.adapter.readout(hidden[depth]))
    prompts = [[5, 9, 200], [7]]
    assert greedy_answers(spread.model, prompts, 4) == greedy_answers(whole.model, prompts, 4)


def test_traces_are_one_measurement(folder: Path, tmp_path: Path) -> None:
    """Bug: a trace begun on a large machine cannot be finished on a small one."""
    workload, options = load_workload("mini"), TraceOptions(limit=3, max_new_tokens=3)
    whole, spread = load(str(folder)), load(str(folder), device="auto", max_memory=LIMIT)
    collect(whole, workload, tmp_path / "whole", options=options)
    collect(spread, workload, tmp_path / "spread", options=options)
    one, other = read_trace(tmp_path / "whole"), read_trace(tmp_path / "spread")
    assert one.manifest.identity() == other.manifest.identity()
    assert other.manifest.environment["weights_on"] == "cpu+disk"
    assert all(np.array_equal(values, other.signals[name], equal_nan=True) for name, values in one.signals.items())


def test_readout_fetches_no_block(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: every readout reads all blocks from disk, or leaves a block without the hook that fetches its weights."""
    adapter = load(str(folder), device="auto", max_memory=LIMIT).adapter
    fetched: list[str] = []
    fetch = OffloadedWeightsLoader.__getitem__

    def note(self: Any, key: str) -> Any:
        fetched.append(key)
        return fetch(self, key)

    monkeypatch.setattr(OffloadedWeightsLoader, "__getitem__", note)
    hidden = adapter.capture(torch.tensor([[5, 9]]))
    assert any(".layers.3." in key for key in fetched)
    forwards = [block.__dict__.get("forward") for block in adapter.blocks]
    fetched.clear()
    adapter.readout(hidden[2])
    assert not [key for key in fetched if ".layers." in key]
    assert [block.__dict__.get("forward") for block in adapter.blocks] == forwards
    assert torch.equal(adapter.capture(torch.tensor([[5, 9]])), hidden)


def test_weights_are_read_in_place(folder: Path, cache: Path) -> None:
    """Bug: a second copy of a checkpoint on disk."""
    loaded = load(str(folder), device="auto", max_memory=LIMIT)
    assert [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
    assert loaded.model.device.type == "cpu"


def test_converted_weights_are_spilled_and_removed(tmp_path: Path, cache: Path) -> None:
    """Bug: a mixture's experts, stored one by one and kept as one tensor, cannot wait on disk, or are left there."""
    config = Qwen2MoeConfig(
        **{"hidden_size": 32, "intermediate_size": 64, "moe_intermediate_size": 64, "num_hidden_layers": 3},
        **{"shared_expert_intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2},
        **{"num_experts": 4, "num_experts_per_tok": 2, "vocab_size": 259},
    )
    folder = tmp_path / "moe"
    Qwen2MoeForCausalLM(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    source, ids = resolve(str(folder)), torch.tensor([[5, 9, 200]])
    whole, _ = load_pretrained(source, dtype=None, placement=placement_options("cpu", None))
    spread, _ = load_pretrained(source, dtype=None, placement=placement_options("auto", "cpu=0.3MB"))
    spilled = list((cache / "offload").glob("*/*experts*.safetensors"))
    assert spilled
    with torch.inference_mode():
        assert torch.equal(spread(ids).logits, whole(ids).logits)


def test_misshapen_weight_on_disk(folder: Path) -> None:
    """Bug: a traceback at the first pass, since weights that wait on disk are not looked at before."""
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.3.mlp.up_proj.weight"
    save_file(weights | {name: torch.zeros(3, 3)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"toy.*(3, 3)") as caught:
        load(str(folder), device="auto", max_memory=LIMIT)
    assert "\n" not in str(caught.value)


def test_missing_weight_on_disk(folder: Path) -> None:
    """Bug: a block that waits on disk is filled with random numbers."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 5}))
    with pytest.raises(ModelError, match=r"lack \d+ tensors, e\.g\. model\.layers\.4\."):
        load(str(folder), device="auto", max_memory=LIMIT)


def test_no_room_for_the_embeddings(folder: Path) -> None:
    """Bug: token ids sent to a device without memory."""
    with pytest.raises(ModelError, match=r"embeddings of toy and one block do not fit .* --max-memory"):
        load(str(folder), device="auto", max_memory="cpu=0.01MB")


def test_all_that_fits_stays_on_one_device(folder: Path) -> None:
    """Bug: "auto" slower than it has to be, or logits that travel."""
    loaded = load(str(folder), device="auto")
    assert weights_wait_on(loaded.model) == "cpu"
    assert not hasattr(loaded.model, "_hf_hook")


def test_limits_by_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: units mixed up, or a GPU that is not named left out."""
    monkeypatch.setattr(placement, "get_max_memory", lambda: {0: 1000, 1: 2000, "cpu": 4000})
    given = placement_options("auto", "cpu=1.5GiB, 1=2MB")
    assert given == {"device_map": "auto", "max_memory": {0: 900, 1: 2_000_000, "cpu": 3 * 2**29}}
    assert placement_options("auto", "cuda:1=1TB")["max_memory"][1] == 10**12
    assert placement_options("auto", None)["max_memory"] is None


@pytest.mark.parametrize(
    ("device", "limits", "words"),
    [
        ("warp", None, "device 'warp' cannot be used.*--device cpu"),
        ("meta", None, "device 'meta' computes nothing; try --device cpu"),
        ("cpu", "cpu=1GB", "--max-memory goes with --device auto, got --device cpu"),
        ("auto", "", "--max-memory has '', expected DEVICE=SIZE"),
        ("auto", "cpu=8", "--max-memory has 'cpu=8', expected DEVICE=SIZE .* e.g. cpu=8GiB"),
        ("auto", "cpu=-1GB", "--max-memory has 'cpu=-1GB'"),
        ("auto", "cpu=1GB,,", "--max-memory has ''"),
        ("auto", "disk=1GB", "--max-memory names disk, expected one of .*cpu"),
        ("auto", "7=1GB", "--max-memory names cuda:7, expected one of .*cpu"),
        ("auto", "cpu=1GB,CPU=2GB", "--max-memory names cpu twice"),
    ],
)
def test_wrong_device_or_limit(device: str, limits: str | None, words: str) -> None:
    """Bug: minutes of loading before an option turns out wrong, or a traceback of accelerate."""
    with pytest.raises(ModelError, match=words) as caught:
        placement_options(device, limits)
    assert "\n" not in str(caught.value)
