"""Draw the README's picture from a run: at which depth each token of an answer is decided.

Run it as `.venv/bin/python docs/make_picture.py exitbench-out/smollm2-135m-instruct-mini --sample qa-02`.
"""

import argparse
from pathlib import Path

import altair as alt
import numpy as np

from exitbench.trace.store import read_trace
from exitbench.trace.table import Trace


def rows_of(trace: Trace, sample_id: str, num_tokens: int) -> list[dict[str, object]]:
    """One record a (token, depth) of the beginning of a sample's answer."""
    index = next(i for i, sample in enumerate(trace.samples) if sample.id == sample_id)
    rows = np.flatnonzero(trace.sample_index == index)[:num_tokens]
    top1, decided = trace.signals["top1_id"][rows], trace.decision_depth[rows]
    records: list[dict[str, object]] = []
    for i, row in enumerate(rows):
        text = trace.token_strings[int(trace.target_id[row])].replace("\n", "\\n")
        for depth in range(1, trace.num_blocks + 1):
            agrees = bool(top1[i, depth] == top1[i, -1])
            state = "decided" if depth >= decided[i] else "agrees, but changes its mind" if agrees else "another token"
            records.append({"token": f"{i:02d} {text}", "depth": depth, "state": state})
    return records


def main() -> None:
    """Read the run and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--sample", default="qa-02")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("picture.png"))
    arguments = parser.parse_args()

    trace = read_trace(arguments.run / "trace")
    states = ["another token", "agrees, but changes its mind", "decided"]
    chart = (
        alt.Chart(alt.InlineData(values=rows_of(trace, arguments.sample, arguments.tokens)))
        .mark_rect(stroke="white", strokeWidth=0.5)
        .encode(
            x=alt.X("token:N", sort=None, title="the model's answer, token by token").axis(
                labelExpr="slice(datum.label, 3)", labelAngle=-60, labelFontSize=12
            ),
            y=alt.Y("depth:O", sort="descending", title="depth (blocks executed)").axis(
                values=[1, *range(5, trace.num_blocks + 1, 5)]
            ),
            color=alt.Color("state:N", title=None, sort=states)
            .scale(domain=states, range=["#e4e4df", "#9ecae1", "#0868ac"])
            .legend(orient="top", labelFontSize=13, labelLimit=400),
        )
        .properties(
            width=860,
            height=300,
            title=f"When is each token decided? {trace.manifest.model.name}, prompt {arguments.sample}",
        )
        .configure_view(stroke=None)
        .configure_title(fontSize=15, anchor="start")
    )
    chart.save(arguments.out, scale_factor=1.5)


if __name__ == "__main__":
    main()
