"""Charts: what they draw, not how they look."""

import json

import pytest

from exitbench.report.chapters import chapters, opening_chart
from exitbench.report.charts import MAX_BARS, category_chart, depth_chart
from exitbench.report.frontier import MAX_DISAGREEMENT, FrontierPoint, frontier_chart
from exitbench.score import Curve, Figure


def rows_of(chart):
    return [row for data in chart.spec["datasets"].values() for row in data]


def every_chart(card):
    return [opening_chart(card), *(chart for chapter in chapters(card) for chart in chapter.charts)]


def figure(value, low=None, high=None, n_prompts=20):
    return Figure(value=value, low=low, high=high, n_tokens=100, n_prompts=n_prompts)


def test_every_chart_is_local_json_with_a_title(card):
    """A chart that fetches its data, or NaN in a specification."""
    charts = every_chart(card)
    assert len(charts) == 9
    for chart in charts:
        assert chart.title
        assert chart.spec["width"] == "container"
        text = json.dumps(chart.spec, allow_nan=False)
        assert '"url"' not in text


def test_decided_curve_is_drawn_whole(card):
    """A curve cut short of depth L, or shifted by one."""
    rows = rows_of(opening_chart(card))
    assert [row["at"] for row in rows] == list(range(13))
    assert [row["value"] for row in rows] == card.decided.value


def test_missing_points_are_left_out():
    """A missing value drawn as 0."""
    curve = Curve(axis="depth", at=[0, 1, 2], value=[0.5, None, 0.7], low=[None] * 3, high=[None] * 3)
    chart = depth_chart(curve, y_title="share", title="t", level="95 %")
    assert [row["at"] for row in rows_of(chart)] == [0, 2]
    assert "band" not in json.dumps(chart.spec)


def test_categories_are_ordered_and_bounded():
    """Hundreds of categories that make a chart metres high, dropped without a word."""
    many = {f"c{index}": figure(index / 1000, n_prompts=index + 1) for index in range(MAX_BARS + 5)}
    chart = category_chart(many, title="t", level="95 %")
    values = [row["value"] for row in rows_of(chart)]
    assert len(values) == MAX_BARS
    assert values == sorted(values, reverse=True)
    assert "5 smallest categories are not drawn" in chart.note


def test_category_without_value_has_no_bar():
    """A category without tokens drawn as a bar of length 0."""
    chart = category_chart({"a": figure(0.1), "b": figure(None)}, title="t", level="95 %")
    assert [row["name"] for row in rows_of(chart)] == ["a"]


def test_frontier_shows_its_useful_part_and_the_points(card):
    """A frontier squeezed flat by thresholds nobody would use, or a diamond off the chart."""
    point = FrontierPoint(label="AES(1 %)", savings=0.04, disagreement=0.4)
    chart = frontier_chart(card.frontier, points=[point], ceiling=card.ees, title="t", level="95 %")
    rows = rows_of(chart)
    drawn = [row["disagreement"] for row in rows if "at" in row]
    assert drawn
    assert max(drawn) <= MAX_DISAGREEMENT
    assert any(row.get("label") == "AES(1 %): 0.040" for row in rows)
    scales = [layer["encoding"]["x"].get("scale") for layer in chart.spec["layer"] if "x" in layer["encoding"]]
    assert scales[0]["domain"] == [0, pytest.approx(0.4)]


def test_labels_of_coinciding_points_stand_apart(card):
    """AES(1 %) and AES(5 %) both 0, one label printed over the other."""
    points = [FrontierPoint(label=name, savings=0.0, disagreement=0.0) for name in ("one", "five")]
    chart = frontier_chart(card.frontier, points=points, ceiling=card.ees, title="t", level="95 %")
    labels = [layer["mark"] for layer in chart.spec["layer"] if layer["mark"]["type"] == "text"]
    assert len({mark["dy"] for mark in labels[1:]}) == 2


def test_titles_say_the_finding(card):
    """A title that contradicts the curve beneath it."""
    half = next(at for at, share in enumerate(card.decided.value) if share >= 0.5)
    assert f"by depth {half} of 12" in opening_chart(card).title
    shown = {name: score.ees.value for name, score in card.categories.items()}
    titles = " ".join(chart.title for chart in every_chart(card))
    assert f"Most suited: {max(shown, key=shown.get)}" in titles
