"""The chapter on exit policies: what is drawn, and that its sentence follows from the figures."""

import json

from exitbench.report.frontier import MAX_DISAGREEMENT
from exitbench.report.policy_charts import MAX_LINES, frontiers_chart, policy_chapter


def rows_of(chart):
    return [row for data in chart.spec["datasets"].values() for row in data]


def test_one_line_a_policy(replayed):
    """Lines of different policies joined into one, or points beyond the axis."""
    chart = frontiers_chart(replayed)
    rows = rows_of(chart)
    assert {row["policy"].split(" ")[0] for row in rows} <= {line.policy for line in replayed.frontiers}
    assert len({row["policy"] for row in rows}) > 4
    assert max(row["disagreement"] for row in rows) <= MAX_DISAGREEMENT
    json.dumps(chart.spec, allow_nan=False)


def test_lines_are_few_and_the_plain_one_stays(replayed):
    """A legend longer than the chart, or the reference dropped from it."""
    line = next(line for line in replayed.frontiers if line.policy == "margin")
    many = [line.model_copy(update={"policy": f"p{number}"}) for number in range(MAX_LINES + 3)]
    plain = next(line for line in replayed.frontiers if line.policy == "top1-prob")
    chart = frontiers_chart(replayed.model_copy(update={"frontiers": [*many, plain]}))
    shown = {row["policy"] for row in rows_of(chart)}
    assert len(shown) <= MAX_LINES
    assert "top1-prob" in shown
    assert "The 4 lowest lines are left out." in chart.note


def test_finding_is_that_of_the_best_at_the_laxest_target(replayed):
    """A sentence about another target or another column than it names."""
    best = {p.policy: p for p in replayed.points if p.policy.startswith("best by") and p.procedure == "bootstrap"}
    chapter = policy_chapter(replayed)
    blocks, moved = best["best by blocks"], best["best by bytes_deferred"]
    assert blocks.eps == 0.05
    assert f"skips {100 * blocks.saved_blocks.value:.1f} % of the blocks' work" in chapter.finding
    assert "5 % of the tokens were allowed to change" in chapter.finding
    assert f"for bytes saves {100 * moved.net_bytes_deferred.value:.1f} % of them" in chapter.finding
    values = [row["value"] for row in rows_of(chapter.charts[1])]
    assert values == blocks.batch.value


def test_without_tuned_targets_nothing_is_claimed(replayed):
    """A chapter that fails, or praises the best of nothing."""
    certified = [point for point in replayed.points if point.procedure != "bootstrap"]
    chapter = policy_chapter(replayed.model_copy(update={"points": certified, "frontiers": []}))
    assert chapter.finding == "What the best of the policies attains is not known at any tuned target."
    assert chapter.charts == ()


def test_a_line_beyond_the_axis_has_no_legend(replayed):
    """A legend entry without a line; a crash where no policy keeps within the axis at any threshold."""
    line = replayed.frontiers[0]
    share = line.frontier.disagreement
    beyond = share.model_copy(update={"value": [1.0] * len(share.value)})
    wild = line.model_copy(update={"frontier": line.frontier.model_copy(update={"disagreement": beyond})})
    chart = frontiers_chart(replayed.model_copy(update={"frontiers": [wild]}))
    assert rows_of(chart) == []
    assert "No policy without training keeps within 25%" in chart.title
