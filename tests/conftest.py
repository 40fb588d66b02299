"""Fixtures shared by every package: constructed traces, for which no model is needed, and variants of toy models."""

import gc
import os
from collections.abc import Callable, Sequence
from typing import Any

# Without a GPU, Triton's kernels run in its interpreter; chosen when triton is first imported, which transformers does.
os.environ.setdefault("TRITON_INTERPRET", "1")

import hypothesis  # noqa: F401 -- its plug-ins ask the collector who refers to what, so they come before `freeze`
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from exitbench.models.shape import BlockShape, ModelShape, ParameterCount
from exitbench.models.tiny import tiny_config
from exitbench.models.toy import byte_tokenizer
from exitbench.trace.decision import decision_depths
from exitbench.trace.manifest import Manifest, ModelIdentity, Settings, WorkloadIdentity
from exitbench.trace.table import Failure, SampleInfo, Trace

# Workers share the cores: threads of their own would wait for each other at every small operation.
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """Keep the libraries and all tests out of garbage collections, which take a fraction of the time then."""
    gc.freeze()


def build_block(product_weights: int = 1_000, **changes: Any) -> BlockShape:
    """A block of attention and an MLP, all of whose parameters are matrices of 2 bytes a number."""
    values: dict[str, Any] = {
        "mixers": ("full attention",),
        "feed_forward": True,
        "experts": None,
        "parameters": product_weights,
        "active_parameters": product_weights,
        "product_weights": product_weights,
        "fixed_flops": 2 * product_weights,
        "flops_per_position": 64,
        "window": None,
        "weight_bytes": 2 * product_weights,
        "state_bytes": 0,
        "state_bytes_per_position": 32,
    }
    return BlockShape(**(values | changes))


def build_shape(costs: Sequence[float], *, completed: bool = True, **changes: Any) -> ModelShape:
    """The shape of a model with blocks of the given cost shares.

    Args:
        costs: c_1 .. c_L.
        completed: whether it was counted what skipped blocks owe: half of their products; else as in an old trace.
        changes: of the shape.
    """
    sizes = [round(1_000_000 * cost) for cost in costs]
    owed = [
        {"completion_flops": size, "completion_flops_per_position": 0, "completion_weight_bytes": size}
        if completed
        else {}
        for size in sizes
    ]
    blocks = tuple(build_block(size, **fields) for size, fields in zip(sizes, owed, strict=True))
    inside = sum(block.parameters for block in blocks)
    parameters = ParameterCount(embedding=16_000, blocks=inside, output=16, idle=0)
    values: dict[str, Any] = {
        "hidden_size": 16,
        "vocab_size": 1000,
        "num_parameters": parameters.total,
        "parameters": parameters,
        "blocks": blocks,
        "block_costs": tuple(costs),
        "head_weights": 16_000,
    }
    return ModelShape(**(values | changes))


def build_manifest(
    *,
    num_blocks: int,
    on: str = "answers",
    block_costs: Sequence[float] | None = None,
    categories: dict[str, int] | None = None,
    model_name: str = "constructed",
    workload_name: str = "constructed",
    fast: bool = False,
    completed: bool = True,
) -> Manifest:
    """A manifest of a model that never existed."""
    costs = block_costs if block_costs is not None else [1 / num_blocks] * num_blocks
    categories = categories or {}
    text = on == "text"
    return Manifest(
        model=ModelIdentity(
            source=model_name,
            name=model_name,
            model_type="llama",
            revision=None,
            weights_sha256="0" * 64,
            config_sha256="2" * 64,
            quantisation=None,
            licence=None,
        ),
        shape=build_shape(costs, completed=completed),
        workload=WorkloadIdentity(
            name=workload_name,
            version="1",
            sha256="1" * 64,
            num_samples=sum(categories.values()),
            categories=categories,
        ),
        settings=Settings(
            recorded="decisions" if fast else "signals",
            on=on,
            readout="logit",
            dtype="float32",
            output_dtype="float32",
            attention="sdpa",
            device="cpu",
            chat_template=not text,
            max_new_tokens=None if text else 32,
            document_tokens=512 if text else None,
            generation_batch=None if text else 8,
            limit=None,
            seed=0,
        ),
        libraries={"exitbench": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
        environment={"cpu": "none"},
        command="exitbench trace constructed",
        created="2026-01-01T00:00:00+00:00",
    )


def plausible_signals(top1_id: np.ndarray, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Every signal, optional or not, consistent with `top1_id` (N, L + 1) where it must be and plausible elsewhere."""
    rng = np.random.default_rng(seed)
    rng_prev = np.random.default_rng([seed, 1])  # of its own, so that the others stay what they were
    num_rows, num_depths = top1_id.shape
    shape, depth = top1_id.shape, np.arange(num_depths) / (num_depths - 1)
    agrees = top1_id == top1_id[:, -1:]
    prob = np.clip(0.1 + 0.6 * depth + 0.25 * agrees * rng.random(shape), 0, 1)
    tv_final = np.where(agrees, 0.4, 0.9) * (1 - depth) * rng.uniform(0.5, 1, shape)
    cosine = np.clip(0.3 + 0.7 * depth - 0.1 * rng.random(shape) * (1 - depth), -1, 1)
    final_logprob = np.log(np.where(agrees, prob, 0.5 * (1 - prob)))
    signals = {
        "top1_prob": prob,
        "margin": prob * 0.7,
        "entropy": 6 * (1 - depth) + 0.5 * rng.random(shape),
        "kl_final": 3 * tv_final,
        "kl_prev": np.where(depth == 0, np.nan, 2 * (1 - depth) * rng_prev.random(shape)),
        "tv_final": tv_final,
        "final_logprob": final_logprob,
        "target_logprob": final_logprob - 0.05 * rng.random((num_rows, 1)),
        "logit_cosine": cosine,
        "logit_cosine_centred": cosine * 0.9 + 0.1 * depth,
        "hidden_cosine": cosine,
        "hidden_cosine_prev": np.where(depth == 0, np.nan, 0.9),
        "hidden_norm": 1 + 20 * depth + rng.random(shape),
    }
    return {"top1_id": top1_id.astype(np.int32), "final_rank": np.where(agrees, 0, 3).astype(np.int32)} | {
        name: np.broadcast_to(values, shape).astype(np.float32) for name, values in signals.items()
    }


def build_trace(
    top1: Sequence[Sequence[int]] | np.ndarray,
    *,
    prob: Any = None,
    signals: dict[str, Any] | None = None,
    prompts: Sequence[int] | None = None,
    categories: Sequence[str] | None = None,
    target: Sequence[int] | None = None,
    turn: Sequence[int] | None = None,
    block_costs: Sequence[float] | None = None,
    on: str = "answers",
    failed: Sequence[int] = (),
    token_strings: dict[int, str] | None = None,
    prompt_texts: Sequence[str] | None = None,
    model_name: str = "constructed",
    workload_name: str = "constructed",
    fast: bool = False,
    completed: bool = True,
    seed: int = 0,
) -> Trace:
    """Construct a trace without a model.

    Args:
        top1: (N, L + 1) top-1 token by depth.
        prob: (N, L + 1) top-1 probability; plausible if None.
        signals: (N, L + 1) values that replace the plausible ones, by name.
        prompts: (N,) sample index of each row, non-decreasing; every row its own prompt if None.
        categories: category of each sample; all "chat" if None. May name more samples than have rows.
        target: (N,) target ids; the final top-1 (so the answer is the model's own) if None.
        turn: (N,) turn of each row; 0 if None.
        block_costs: c_1 .. c_L; equal if None.
        on: "answers" or "text".
        failed: sample indices that failed.
        token_strings: decoded tokens; "t<id>" for the ids not given.
        prompt_texts: text of each sample's prompt.
        model_name: name in the manifest.
        workload_name: name in the manifest.
        fast: record the decisions alone, no signals.
        completed: see `build_shape`.
        seed: seed of the plausible values.
    """
    top1_id = np.asarray(top1, dtype=np.int32)
    num_rows = len(top1_id)
    sample_index = np.asarray(range(num_rows) if prompts is None else prompts, dtype=np.int32)
    if categories is None:
        categories = ["chat"] * (int(sample_index.max(initial=-1)) + 1)
    turns = np.zeros(num_rows, dtype=np.int16) if turn is None else np.asarray(turn, dtype=np.int16)
    targets = top1_id[:, -1] if target is None else np.asarray(target, dtype=np.int32)
    recorded = plausible_signals(top1_id, seed=seed)
    replaced = {} if prob is None else {"top1_prob": prob}
    for name, values in (replaced | (signals or {})).items():
        recorded[name] = np.asarray(values, dtype=recorded[name].dtype)
    first_of_sample = np.searchsorted(sample_index, sample_index)
    ids = np.unique(np.concatenate([top1_id.ravel(), targets]))
    return Trace(
        manifest=build_manifest(
            num_blocks=top1_id.shape[1] - 1,
            on=on,
            block_costs=block_costs,
            categories={name: list(categories).count(name) for name in dict.fromkeys(categories)},
            model_name=model_name,
            workload_name=workload_name,
            fast=fast,
            completed=completed,
        ),
        samples=tuple(
            SampleInfo(
                id=f"sample-{index}",
                category=category,
                turns=(prompt_texts[index] if prompt_texts else f"Prompt number {index}?",),
            )
            for index, category in enumerate(categories)
        ),
        failures=tuple(Failure(sample_id=f"sample-{index}", reason="non-finite logits") for index in failed),
        sample_index=sample_index,
        turn=turns,
        position=(np.arange(num_rows) - first_of_sample + 10).astype(np.int32),
        input_id=np.roll(targets, 1),
        target_id=targets,
        final_id=top1_id[:, -1],
        decision_depth=decision_depths(top1_id),
        signals={} if fast else recorded,
        token_strings={int(index): f"t{index}" for index in ids} | (token_strings or {}),
    )


def simulate_top1(
    depths: Sequence[int] | np.ndarray, num_blocks: int, *, vocabulary: int = 50, seed: int = 0
) -> np.ndarray:
    """Top-1 ids (N, L + 1) whose decision depths are exactly `depths`: another token just before each."""
    rng = np.random.default_rng(seed)
    depths = np.asarray(depths)
    final = rng.integers(vocabulary, size=len(depths))
    top1 = rng.integers(vocabulary, size=(len(depths), num_blocks + 1))
    columns = np.arange(num_blocks + 1)
    top1 = np.where(columns >= depths[:, None], final[:, None], top1)
    before = columns == depths[:, None] - 1
    return np.where(before, (final[:, None] + 1) % vocabulary, top1)


def build_toy(
    family: str,
    *,
    num_blocks: int | None = 3,
    dtype: torch.dtype = torch.float32,
    std: float | None = 0.25,
    **changes: Any,
) -> PreTrainedModel:
    """A toy model with changes to its config, which `toy_model` does not offer.

    Args:
        family: any causal model type.
        num_blocks: L; None for as many as show every kind of block.
        dtype: dtype of the weights.
        std: scale of all matrices; None for transformers' own initialisation.
        changes: settings of the config.
    """
    special = {"vocab_size": len(byte_tokenizer()), "eos_token_id": 0, "pad_token_id": 1, "bos_token_id": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = tiny_config(family, num_blocks=num_blocks, **(special | changes))
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        if std is not None:
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=std)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def make_block() -> Callable[..., BlockShape]:
    """The builder of block shapes, see `build_block`."""
    return build_block


@pytest.fixture(scope="session")
def make_shape() -> Callable[..., ModelShape]:
    """The builder of model shapes, see `build_shape`."""
    return build_shape


@pytest.fixture(scope="session")
def make_toy() -> Callable[..., PreTrainedModel]:
    """The builder of toy models with a changed config, see `build_toy`."""
    return build_toy


@pytest.fixture(scope="session")
def make_trace() -> Callable[..., Trace]:
    """The builder of constructed traces, see `build_trace`."""
    return build_trace


@pytest.fixture(scope="session")
def make_top1() -> Callable[..., np.ndarray]:
    """The builder of top-1 ids with given decision depths, see `simulate_top1`."""
    return simulate_top1


@pytest.fixture(scope="session")
def typical_trace() -> Trace:
    """12 prompts in 3 categories, 20 tokens each, 6 blocks: an unremarkable trace."""
    rng = np.random.default_rng(7)
    depths = rng.binomial(6, 0.85, size=240)
    return build_trace(
        simulate_top1(depths, 6, seed=7),
        prompts=np.repeat(np.arange(12), 20),
        categories=["chat", "maths", "code"] * 4,
    )
