"""What does a logit lens cost here and in other libraries, and do they see the same?

The same model, text and signals, measured in turns in one process: time in plain forward passes of the same tokens.
Memory: the peak of the resident set over one document, less that of its forward pass; copies of the weights, which some
libraries need, do not count. Agreement is with exitbench: share of top-1 ids, over tokens and depths, and share of
decision depths.

A library that is missing or fails is a row with the reason. Those that install: pip install '.[peers]'.
"""

import argparse
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch

from common import documents, print_result, quantiles
from exitbench.models.load import LoadedModel, load
from exitbench.trace.decision import decision_depths
from measuring import CLOCKS, peaks_beyond_forward, times_in_turns
from ways import WAYS, Run, Seen, Way

REFERENCE = "exitbench, full"
NEAR_TIE = 0.02
"""Margin below which two top tokens count as nearly tied."""


class UnusableError(Exception):
    """A way that does not run here, and why."""


def prepared(way: Way, loaded: LoadedModel, ids: torch.Tensor) -> Run:
    """Wrap the model and try it on a few tokens.

    Raises:
        UnusableError: the library is not installed, or fails on this model.
    """
    try:
        if way.package:
            version(way.package)
        run = way.prepare(loaded)
        run(ids)
    except PackageNotFoundError:
        raise UnusableError("not installed") from None
    except Exception as error:  # whatever a library does wrong is a result
        raise UnusableError(f"{type(error).__name__}: {error}".splitlines()[0]) from error
    return run


def agreement(seen: list[Seen], ours: list[Seen]) -> dict[str, float | None]:
    """How far what one way saw is what exitbench saw; None for what it does not give."""
    own_ids = np.concatenate([s["top1_id"].T for s in ours])
    own_depths = decision_depths(own_ids)
    if "decision_depth" in seen[0]:
        depths = np.concatenate([s["decision_depth"] for s in seen])
        return {"same_decision_depth": float((depths == own_depths).mean()), "same_top1_id": None}
    if "top1_id" not in seen[0]:
        return {"same_decision_depth": None, "same_top1_id": None}
    ids = np.concatenate([s["top1_id"].T for s in seen])
    differ = ids != own_ids
    margin = np.concatenate([s["margin"].T for s in ours])
    return {
        "same_decision_depth": float((decision_depths(ids) == own_depths).mean()),
        "same_top1_id": float(1 - differ.mean()),
        "of_differing_ids_tied": float((margin[differ] == 0).mean()) if differ.any() else None,
        "of_differing_ids_nearly_tied": float((margin[differ] < NEAR_TIE).mean()) if differ.any() else None,
        **{
            f"{name}_mean_difference": float(
                np.mean([abs(s[name] - o[name]).mean() for s, o in zip(seen, ours, strict=True)])
            )
            for name in ("top1_prob", "margin", "entropy", "kl_final")
        },
    }


def rows_of(results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The table for people."""

    def percent(share: float | None) -> str:
        return "" if share is None else f"{share:.1%}"

    rows = []
    for name, result in results.items():
        ratio, mib = result.get("ratio_to_forward"), result.get("peak_mib")
        rows.append(
            {
                "way": name,
                "version": result["version"] or "",
                "sees": result["sees"],
                "x forward": f"{ratio['median']:.1f}" if ratio else result["reason"],
                "spread": "{min:.1f} to {max:.1f}".format(**ratio) if ratio else "",
                "peak MiB beyond": "" if mib is None else f"{mib:.0f}",
                "same id": percent(result.get("same_top1_id")),
                "same depth": percent(result.get("same_decision_depth")),
            }
        )
    return rows


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--tokens", type=int, default=2400)
    parser.add_argument("--length", type=int, default=480, help="tokens of a document")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="'processor' on a machine that others use too")
    return parser.parse_args()


@torch.inference_mode()
def main() -> None:
    arguments = parse()
    loaded = load(arguments.model, dtype=arguments.dtype)
    docs = [torch.tensor(ids) for ids in documents(loaded, arguments.tokens, arguments.length)]
    results: dict[str, dict[str, Any]] = {}
    runs: dict[str, Run] = {}
    for name, way in WAYS.items():
        results[name] = {"sees": way.sees, "note": way.note, "version": None, "reason": None}
        try:
            runs[name] = prepared(way, loaded, docs[0][:8])
            results[name]["version"] = version(way.package) if way.package else None
        except UnusableError as error:
            results[name]["reason"] = str(error)
    times, seen = times_in_turns(runs, docs, arguments.repeats, arguments.clock)
    peaks = peaks_beyond_forward(runs, docs[0])
    for name in runs:
        ratios = [t / f for t, f in zip(times[name], times["forward"], strict=True)]
        results[name] |= {
            "time_s": quantiles(times[name]),
            "ratio_to_forward": quantiles(ratios),
            "peak_mib": peaks[name],
            **agreement(seen[name], seen[REFERENCE]),
        }
    sizes = {
        "n_tokens": arguments.tokens,
        "document_tokens": arguments.length,
        "n_repeats": arguments.repeats,
        "clock": arguments.clock,
    }
    print_result(
        f"{arguments.model}, {arguments.dtype}, {arguments.tokens} tokens, {loaded.shape.num_blocks} blocks",
        rows_of(results),
        {"model": arguments.model, "dtype": arguments.dtype, **sizes, "ways": results},
    )


if __name__ == "__main__":
    main()
