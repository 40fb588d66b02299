"""Does the fused readout on a GPU give the right numbers, and at what share of a plain matrix product's speed?

One command on a machine with an NVIDIA GPU, best an H100 or H200: `python benchmarks/readout_gpu.py`. Nobody has run
it on a GPU so far: no figure of the kernels' speed exists, and 70 % of the speed of torch's bfloat16 product is an
aim. What is known without a GPU: they compile for Hopper to TMA and wgmma instructions with 32 bytes of spilled
registers a thread at most, and Triton's interpreter gets the right numbers from them at small shapes. `--small` runs
this script in that way, on a CPU; its times mean nothing.

Correctness: against whole logits in float32, some rows at a time. Logits are rounded to bfloat16 before they are
compared, so that a sum taken in another order can tip one to its neighbour: an id that differs counts as wrong unless
its logit, in the reference, is within one rounding of the largest. Speed: pass 1 (`reduce_logits`), pass 2
(`compare_logits`, which makes two products) and torch's own bfloat16 product of the same shape, in turns; a share is
that of the product's FLOPs a second. Times include launch and merging. Exit code 1 if an id is wrong.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tests"))
os.environ["TRITON_INTERPRET"] = "1" if "--small" in sys.argv else "0"  # read when triton is first imported

import torch

from common import print_result, quantiles
from exitbench.signals.triton_kernels import compare_kernel, reduce_kernel
from exitbench.signals.triton_readout import Head, compare_logits, reduce_logits
from plain_readout import fused_fields, plain_fields, plain_logits

WARM_UP = 3
ROUNDING = torch.finfo(torch.bfloat16).eps


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--small", action="store_true", help="on a CPU in Triton's interpreter, tiny shapes")
    arguments = parser.parse_args()
    if arguments.small:
        device, hidden_sizes, vocab_sizes, arguments.tokens, arguments.repeats = "cpu", (24,), (40, 300), 20, 1
    elif torch.cuda.is_available():
        device, hidden_sizes, vocab_sizes = "cuda", (2048, 4096, 8192), (32000, 128256, 262144)
    else:
        sys.stderr.write("readout_gpu.py needs a GPU and torch sees none; without one, try --small\n")
        sys.exit(2)

    shapes = []
    for hidden_size in hidden_sizes:
        for vocab_size in vocab_sizes:
            inputs = _inputs(arguments.tokens, hidden_size, vocab_size, device)
            shape = {"hidden_size": hidden_size, "vocab_size": vocab_size}
            shapes.append(shape | _compare(*inputs) | _measure(*inputs, repeats=arguments.repeats))
    print_result(
        f"fused readout, {arguments.tokens} tokens, bfloat16, {'interpreted' if arguments.small else 'GPU'}",
        [_row(shape) for shape in shapes],
        {"n_tokens": arguments.tokens, "repeats": arguments.repeats, "interpreted": arguments.small, "shapes": shapes},
    )
    sys.exit(int(any(shape["ids"]["wrong"] for shape in shapes)))


def _inputs(
    num_rows: int, hidden_size: int, vocab_size: int, device: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Head]:
    """Hidden states, final hidden states, ids and a head whose logits have standard deviation 2."""
    generator = torch.Generator(device).manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=device, dtype=torch.bfloat16)

    hidden = draw(num_rows, hidden_size)
    final_hidden = hidden + 0.5 * draw(num_rows, hidden_size)
    ids = torch.randint(vocab_size, (num_rows,), generator=generator, device=device)
    weight = draw(vocab_size, hidden_size).mul_(2 * hidden_size**-0.5)
    return hidden, final_hidden, ids, Head(weight=weight, output_dtype=torch.bfloat16)


def _compare(hidden: torch.Tensor, final_hidden: torch.Tensor, ids: torch.Tensor, head: Head) -> dict[str, Any]:
    """Ids that differ from the reference's, and the largest error of everything else.

    Errors are taken where the largest logit is the reference's: elsewhere it is one rounding away, and all that is
    relative to it is shifted by as much.
    """
    fused = fused_fields(hidden, final_hidden, ids, head)
    exact_head = Head(weight=head.weight.float(), output_dtype=head.output_dtype)
    counts, errors = {"differ": 0, "wrong": 0, "tops_rounded_otherwise": 0, "ranks_differ": 0}, {}
    for rows in _chunks(len(hidden), len(head.weight)):
        logits, final_logits = (plain_logits(x[rows], exact_head) for x in (hidden, final_hidden))
        plain = plain_fields(logits, final_logits, ids[rows])
        ours = {name: values[rows] for name, values in fused.items()}
        top, chosen = plain.pop("top_logit"), logits.gather(-1, ours["top_id"].long()[:, None])[:, 0]
        same = ours["top_logit"] == top
        counts["differ"] += int((ours["top_id"] != plain.pop("top_id")).sum())
        counts["wrong"] += int((top - chosen > ROUNDING * top.abs()).sum())
        counts["tops_rounded_otherwise"] += int((~same).sum())
        counts["ranks_differ"] += int((ours["final_rank"] != plain.pop("final_rank")).sum())
        for name, want in plain.items():
            scale = want.abs().clamp_min(1)
            error = ((ours[name] - want).abs() / scale).nan_to_num(torch.inf)[same]
            if len(error):
                errors[name] = max(errors.get(name, 0.0), float(error.amax()))
    return {"ids": counts, "max_relative_error": errors}


def _chunks(num_rows: int, vocab_size: int) -> Iterator[slice]:
    """Rows with at most 256 MiB of float32 logits."""
    size = max(1, 2**26 // vocab_size)
    return (slice(start, start + size) for start in range(0, num_rows, size))


def _measure(
    hidden: torch.Tensor, final_hidden: torch.Tensor, ids: torch.Tensor, head: Head, *, repeats: int
) -> dict[str, Any]:
    """Times of the product and both passes, taken in turns, and the memory of the passes beside their inputs."""
    wanted = torch.stack([ids, ids], -1)
    final, own = (reduce_logits(x, head, wanted) for x in (final_hidden, hidden))
    passes: dict[str, Callable[[], Any]] = {
        "pass_1": lambda: reduce_logits(hidden, head, wanted),
        "pass_2": lambda: compare_logits(hidden, own, final_hidden, final, head, final_id_logit=own.at[:, 1]),
    }
    extra = {name: _extra_bytes(run) for name, run in passes.items()}
    logits = hidden.new_empty((len(hidden), len(head.weight)))
    runs = {"product": lambda: torch.mm(hidden, head.weight.T, out=logits), **passes}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(WARM_UP + repeats):
        for name, run in runs.items():
            elapsed = _elapsed_s(run, hidden.device)
            if turn >= WARM_UP:
                times[name].append(elapsed)
    medians = {name: quantiles(values)["median"] for name, values in times.items()}
    return {
        "time_s": {name: quantiles(values) for name, values in times.items()},
        "share_of_product_speed": {
            "pass_1": medians["product"] / medians["pass_1"],
            "pass_2": 2 * medians["product"] / medians["pass_2"],
        },
        "product_tflops": 2 * logits.numel() * hidden.shape[1] / medians["product"] / 1e12,
        "configuration": {"pass_1": str(reduce_kernel.best_config), "pass_2": str(compare_kernel.best_config)},
        "extra_bytes": extra,
        "extra_bytes_reason": None if hidden.is_cuda else "counted on a GPU only",
    }


def _extra_bytes(run: Callable[[], Any]) -> int | None:
    """Largest GPU memory allocated during a run, less what was allocated before it."""
    if not torch.cuda.is_available():
        return None
    run()  # anything made once
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _elapsed_s(run: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cpu":
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def _row(shape: dict[str, Any]) -> dict[str, Any]:
    times, share, extra = shape["time_s"], shape["share_of_product_speed"], shape["extra_bytes"]["pass_1"]
    errors = shape["max_relative_error"]
    row = {"D": shape["hidden_size"], "V": shape["vocab_size"], "TFLOP/s": shape["product_tflops"]}
    for name, of in times.items():
        row[f"{name} ms"] = "{median:.3g} [{min:.3g}, {max:.3g}]".format_map({q: 1e3 * of[q] for q in of})
    return row | {
        "share 1": share["pass_1"],
        "share 2": share["pass_2"],
        "extra MiB": "n/a" if extra is None else extra / 2**20,
        "ids wrong": f"{shape['ids']['wrong']} of {shape['ids']['differ']}",
        "error of sums": max((errors[name] for name in errors.keys() - {"at", "second_logit"}), default="n/a"),
    }


if __name__ == "__main__":
    main()
