"""How much memory does a model of several GB take, whole and with most of its weights on disk?

A Llama of random bfloat16 weights is written shard by shard. Each way of loading it then runs in a process of its own
under a hard limit: a memory cgroup where this user may make one, else the limit on the process's private memory
(RLIMIT_DATA). What is measured is the peak of the resident set (VmHWM): private memory and whatever is mapped of the
weight files together, from start to end: load, proof, and all signals at every depth of one document.
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

from common import print_result
from exitbench.models.load import load
from exitbench.models.placement import weights_wait_on
from exitbench.models.toy import byte_tokenizer
from exitbench.signals import compute_signals

GIB = 2**30
HIDDEN, INNER, VOCAB = 2048, 5632, 32000
NUM_TOKENS = 128


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way of loading; shares are of the weights in the dtype they are used in."""

    name: str
    dtype: str
    in_memory: float | None
    """Share that may stay in memory, the rest waits on disk; None for all, without spreading."""
    bound: float
    """Share below which the peak is kept."""

    def options(self, num_bytes: int) -> dict[str, Any]:
        """Options of `load` for weights of `num_bytes`."""
        if self.in_memory is None:
            return {"dtype": self.dtype, "device": "cpu"}
        budget = f"cpu={self.in_memory * num_bytes / 2**20:.0f}MiB"
        return {"dtype": self.dtype, "device": "auto", "max_memory": budget}


WAYS = (
    Way(name="in memory", dtype="bfloat16", in_memory=None, bound=1.3),
    Way(name="on disk", dtype="bfloat16", in_memory=0.2, bound=0.5),
)
WAYS_WITH_CAST = (
    Way(name="cast, in memory", dtype="float32", in_memory=None, bound=1.3),
    Way(name="cast, on disk", dtype="float32", in_memory=0.2, bound=0.5),
)
CGROUPS = (
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
    (Path("/sys/fs/cgroup"), "memory.max"),
)


def _block(index: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    sizes = {
        **{f"self_attn.{name}_proj": (HIDDEN, HIDDEN) for name in "qo"},
        **{f"self_attn.{name}_proj": (HIDDEN // 4, HIDDEN) for name in "kv"},
        **{f"mlp.{name}_proj": (INNER, HIDDEN) for name in ("gate", "up")},
        "mlp.down_proj": (HIDDEN, INNER),
    }
    matrices = {name: _random(size, generator) for name, size in sizes.items()}
    norms = {f"{name}_layernorm": torch.ones(HIDDEN).bfloat16() for name in ("input", "post_attention")}
    return {f"model.layers.{index}.{name}.weight": tensor for name, tensor in (matrices | norms).items()}


def _random(size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    return torch.randn(size, generator=generator, dtype=torch.bfloat16) * 0.05


def build(folder: Path, num_bytes: int) -> int:
    """Write a model of about `num_bytes`, never more of it in memory than one block, and return its exact size."""
    generator = torch.Generator().manual_seed(0)
    per_block = 2 * HIDDEN * (2 * HIDDEN + HIDDEN // 2 + 3 * INNER)
    num_blocks = max(1, round((num_bytes - 4 * VOCAB * HIDDEN) / per_block))
    config = LlamaConfig(
        hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=num_blocks, num_attention_heads=16,
        num_key_value_heads=4, vocab_size=VOCAB, max_position_embeddings=2048, dtype="bfloat16",
        bos_token_id=2, eos_token_id=0, pad_token_id=1, architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    config.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    place: dict[str, str] = {}

    def write(tensors: dict[str, torch.Tensor]) -> int:
        shard = f"model-{len(set(place.values())):05}.safetensors"
        save_file(tensors, folder / shard, metadata={"format": "pt"})
        place.update(dict.fromkeys(tensors, shard))
        return sum(tensor.nbytes for tensor in tensors.values())

    size = write({"model.embed_tokens.weight": _random((VOCAB, HIDDEN), generator)})
    size += sum(write(_block(index, generator)) for index in range(num_blocks))
    head = {"lm_head.weight": _random((VOCAB, HIDDEN), generator), "model.norm.weight": torch.ones(HIDDEN).bfloat16()}
    size += write(head)
    index = {"metadata": {"total_size": size}, "weight_map": place}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return size


def _peak() -> int:
    """Most bytes that were ever resident in this process."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def measure(folder: str, options: dict[str, Any]) -> dict[str, Any]:
    """Load, prove and trace one document in this process."""
    imports, start = _peak(), time.perf_counter()
    loaded = load(folder, **options)
    load_s, start = time.perf_counter() - start, time.perf_counter()
    ids = torch.randint(VOCAB, (NUM_TOKENS + 1,), generator=torch.Generator().manual_seed(1))
    hidden_LRD = loaded.adapter.capture(ids[None], slice(0, NUM_TOKENS))
    signals = compute_signals(hidden_LRD, ids[1:], loaded.readout)
    return {
        "weights_on": weights_wait_on(loaded.model),
        "imports_gib": imports / GIB,
        "peak_gib": _peak() / GIB,
        "load_s": load_s,
        "trace_s": time.perf_counter() - start,
        "sha256": hashlib.sha256(b"".join(signals[name].tobytes() for name in sorted(signals))).hexdigest(),
    }


def _limited(num_bytes: int) -> str:
    """Keep this process below `num_bytes`; returns how. The group is named after the parent, who removes it.

    A group is charged only with what comes after the process has joined it, so it gets what the imports have left.
    """
    left = num_bytes - _peak()
    for root, file in CGROUPS:
        group = root / f"exitbench-{os.getppid()}"
        try:
            group.mkdir()
            (group / file).write_text(str(left))
            (group / "cgroup.procs").write_text(str(os.getpid()))
        except OSError:
            continue
        return "cgroup"
    resource.setrlimit(resource.RLIMIT_DATA, (num_bytes, num_bytes))
    return "RLIMIT_DATA"


def _out_of_page_cache(folder: Path) -> None:
    """Let the process that reads the files pay for their pages, as a limit counts them."""
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _in_own_process(folder: Path, options: dict[str, Any], limit: int) -> dict[str, Any]:
    request = json.dumps({"folder": str(folder), "options": options, "limit": limit})
    done = subprocess.run([sys.executable, __file__, "--measure", request], stdout=subprocess.PIPE, check=True)
    for root, _ in CGROUPS:
        group = root / f"exitbench-{os.getpid()}"
        if group.exists():
            group.rmdir()
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=4.0, help="size of the weights")
    parser.add_argument("--cast", action="store_true", help="also cast to float32, which doubles the weights")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        request = json.loads(arguments.measure)
        limited_by = _limited(request["limit"])
        print(json.dumps({"limited_by": limited_by, **measure(request["folder"], request["options"])}))
        return

    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        size = build(folder, round(arguments.gib * GIB))
        for way in WAYS + WAYS_WITH_CAST * arguments.cast:
            used = size * (2 if way.dtype == "float32" else 1)
            _out_of_page_cache(folder)
            result = _in_own_process(folder, way.options(used), round(way.bound * used))
            ratio = result["peak_gib"] * GIB / used
            results[way.name] = {"weights_gib": used / GIB, "bound": way.bound, "peak_ratio": ratio, **result}
    shown = ("weights_on", "weights_gib", "peak_gib", "peak_ratio", "bound", "load_s", "trace_s")
    rows = [{"way": name} | {key: result[key] for key in shown} for name, result in results.items()]
    print_result(
        f"Llama of {size / GIB:.2f} GiB in bfloat16", rows, {"n_tokens": NUM_TOKENS, "n_repeats": 1, "ways": results}
    )


if __name__ == "__main__":
    main()
