"""Every policy on every workload of some traces: what it saves, changes and costs, with intervals, as one CSV file.

Each trace is replayed as a whole and once for each of its workloads, with thresholds chosen within that workload. The
eight categories of MT-bench count as one workload, as Spec-Bench counts them; any other category is a workload of its
own. Beside the file it is printed which policies beat the plain threshold (paired bootstrap over prompts, Holm-adjusted
over the policies of a replay) and which net savings lie below 0.

    python benchmarks/policy_table.py TRACE... --out docs/policies.csv
"""

import argparse
import csv
import io
from collections import Counter, defaultdict
from pathlib import Path

from common import print_result
from exitbench.api import read_trace, replay
from exitbench.files import write_text
from exitbench.replay.assemble import ReplayOptions
from exitbench.replay.result import Replay
from exitbench.replay.targets import targets
from exitbench.report.replay import replay_csv
from exitbench.stats.bootstrap import MIN_PROMPTS
from exitbench.trace.table import Trace

MT_BENCH = {"writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities"}
LEFT_OUT = {"categories", "risk"}
SIGNIFICANT = 0.05


def workloads_of(trace: Trace) -> dict[str, list[str]]:
    """Name of each workload, the whole first -> its categories."""
    found: dict[str, list[str]] = defaultdict(list)
    for category in dict.fromkeys(sample.category for sample in trace.samples):
        found["all"].append(category)
        found["mt_bench" if category in MT_BENCH else category].append(category)
    return dict(found)


def rows_of(result: Replay, workload: str) -> list[dict[str, str]]:
    rows = list(csv.DictReader(io.StringIO(replay_csv(result))))
    kept = [{key: _short(value) for key, value in row.items() if _is_kept(key)} for row in rows]
    return [row | {"workload": workload} for row in kept]


def _is_kept(column: str) -> bool:
    return column not in LEFT_OUT and not column.startswith("net_time")


def _short(value: str) -> str:
    """Four digits of a fraction; anything else as it is."""
    return f"{float(value):.4g}" if value.replace("-", "").replace(".", "", 1).isdigit() and "." in value else value


def summary_of(results: dict[tuple[str, str], Replay]) -> list[dict[str, str]]:
    """For each model, target and policy: in how many workloads it beats the plain threshold, and where it costs."""
    tally: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for (model, _), result in results.items():
        for point in result.points:
            count = tally[model, f"{point.eps:.0%} {point.procedure}", point.policy, point.probes]
            count["workloads"] += 1
            if point.over_plain is not None and point.over_plain_p is not None:
                better = (point.over_plain.value or 0) > 0
                count["better" if better else "worse"] += point.over_plain_p < SIGNIFICANT
            for name, net in (("FLOPs", point.net_flops_copy), ("bytes", point.net_bytes_deferred)):
                count[f"net {name} below 0"] += net is not None and net.high is not None and net.high < 0
                count[f"net {name} above 0"] += net is not None and net.low is not None and net.low > 0
    columns = ("workloads", "better", "worse")
    columns += tuple(f"net {name} {side} 0" for name in ("FLOPs", "bytes") for side in ("below", "above"))
    heads = ("model", "held to", "policy", "probes")
    return [dict(zip(heads, key, strict=True)) | {name: n[name] for name in columns} for key, n in tally.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("traces", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("policies.csv"))
    parser.add_argument("--draws", type=int, default=2000)
    arguments = parser.parse_args()

    plain = targets(eps=(0.01, 0.05), procedures=("bootstrap",), risk="token", delta=0.1)
    certified = targets(eps=(0.05,), procedures=("fixed-sequence",), risk="token", delta=0.1)
    options = ReplayOptions(targets=plain + certified, draws=arguments.draws)
    results, rows, counts = {}, [], {}
    for path in arguments.traces:
        trace = read_trace(path)
        for workload, categories in workloads_of(trace).items():
            part = trace.of_categories(categories)
            if len({*part.sample_index.tolist()}) < MIN_PROMPTS:
                continue
            result = replay(part, options=options)
            results[trace.manifest.model.name, workload] = result
            rows += rows_of(result, workload)
            counts[f"{trace.manifest.model.name} {workload}"] = [result.n_tokens, result.n_prompts]
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(arguments.out, out.getvalue())
    print_result(
        f"policies against top1-prob at every depth, Holm-adjusted p < {SIGNIFICANT}; net: interval beside 0",
        summary_of(results),
        {"n_rows": len(rows), "file": arguments.out.name, "tokens_and_prompts": counts, "draws": arguments.draws},
    )


if __name__ == "__main__":
    main()
