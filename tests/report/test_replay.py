"""A replay in a terminal and as CSV."""

import csv
import io

from rich.console import Console

from exitbench.report.replay import TABLE_WIDTH, replay_csv, replay_tables
from exitbench.stats.figure import Figure


def printed(replay, width=TABLE_WIDTH):
    stream = io.StringIO()
    Console(file=stream, width=width).print(replay_tables(replay))
    return stream.getvalue()


def test_tables_fit_their_width(replayed):
    """A reason in a cell that pushes the figures off the screen."""
    lines = printed(replayed).splitlines()
    assert not any("\u2026" in line for line in lines)
    (row, *_) = (line for line in lines if line.strip().startswith("margin"))
    point = next(p for p in replayed.points if (p.policy, p.probes, p.eps) == ("margin", "every", 0.01))
    assert point.saved_blocks.text() in row
    assert point.net_bytes_deferred.text() in row


def test_tables_with_times_fit_their_width(replayed):
    """Figures that are cut as soon as a profile adds a column."""
    wide = Figure(value=-10.496, low=-10.508, high=-10.482, n_tokens=9, n_prompts=24)
    net = dict.fromkeys(("net_flops_copy", "net_bytes_deferred", "net_time_deferred"), wide)
    points = [point.model_copy(update={"policy": "best by bytes_deferred"} | net) for point in replayed.points]
    text = printed(replayed.model_copy(update={"points": points, "profile": "h100-sxm"}))
    assert "time, net" in text
    assert "\u2026" not in text


def test_what_is_missing_stands_below(replayed):
    """A certificate that is left out without the number of prompts it needs."""
    text = " ".join(printed(replayed).split())
    assert "a fixed-sequence certificate at 5 %, delta 0.1 needs at least 45 calibration prompts, got " in text
    assert "lossless drafting, projected in bytes: " in text
    assert "Holm-adjusted p < 0.05" in text


def test_csv_has_every_point_with_its_interval(replayed):
    """Rows without what they were held to, a null written as 0, or rounded beyond use."""
    rows = list(csv.DictReader(io.StringIO(replay_csv(replayed))))
    assert len(rows) == len(replayed.points)
    for row, point in zip(rows, replayed.points, strict=True):
        assert (row["policy"], row["probes"], float(row["eps"])) == (point.policy, point.probes, point.eps)
        if point.saved_blocks is None:
            assert row["saved_blocks"] == row["saved_blocks_low"] == row["net_bytes_deferred"] == ""
        else:
            assert abs(float(row["saved_blocks"]) - point.saved_blocks.value) < 1e-6
            assert abs(float(row["net_bytes_deferred_high"]) - point.net_bytes_deferred.high) < 1e-4
        assert row["net_time_deferred"] == ""
    assert {row["n_prompts"] for row in rows} == {"24"}


def test_hostile_names_stay_text(replayed):
    """A model that colours or retitles the terminal by its name."""
    model = replayed.model.model_copy(update={"name": "\x1b]0;pwn\x07[red]x[/red]"})
    text = printed(replayed.model_copy(update={"model": model}))
    assert "[red]x[/red]" in text
    assert "\x1b" not in text
