"""Draw what exit policies save, workload by workload, from the table of `benchmarks/policy_table.py`.

Run it as `.venv/bin/python docs/make_policy_picture.py docs/policies.csv`.
"""

import argparse
import csv
from pathlib import Path

import altair as alt

SHOWN = ("top1-prob", "margin", "entropy", "per-depth", "calm-decay", "kl-prev", "gate", "hidden-cosine", "patience")


def main() -> None:
    """Read the table and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--eps", default="0.05")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("policies.png"))
    arguments = parser.parse_args()

    with arguments.table.open(encoding="utf-8") as file:
        rows = [
            {
                "model": row["model"],
                "workload": row["workload"],
                "policy": row["policy"],
                **{name: float(row[name]) for name in ("saved_blocks", "saved_blocks_low", "saved_blocks_high")},
            }
            for row in csv.DictReader(file)
            if (row["eps"], row["procedure"], row["probes"]) == (arguments.eps, "bootstrap", "every")
            and row["policy"] in SHOWN
            and row["saved_blocks"]
        ]
    workloads = list(dict.fromkeys(row["workload"] for row in rows))
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        y=alt.Y("policy:N", sort=list(SHOWN), title=None),
        color=alt.Color("policy:N", sort=list(SHOWN), legend=None).scale(scheme="tableau10"),
    )
    share = alt.X("saved_blocks:Q", title=None).axis(format="%", tickCount=4)
    layers = alt.layer(
        base.mark_rule(strokeWidth=2).encode(x="saved_blocks_low:Q", x2="saved_blocks_high:Q"),
        base.mark_point(filled=True, size=45).encode(x=share),
    ).properties(width=112, height=150)
    chart = (
        layers.facet(
            column=alt.Column("workload:N", sort=workloads, title=None),
            row=alt.Row("model:N", title=None),
        )
        .properties(title=f"Blocks' work skipped, held to {float(arguments.eps):.0%} of changed tokens (probes free)")
        .configure_title(fontSize=15, anchor="start")
    )
    chart.save(arguments.out, scale_factor=1.5)


if __name__ == "__main__":
    main()
