"""Pictures of a study as files."""

import re

import pytest

from exitbench.report.page import charts_of
from exitbench.report.study_pictures import study_pictures
from study_rows import cell_rows, failed, row, study_rows

PNG = b"\x89PNG\r\n\x1a\n"


def names(rows, folder):
    written = study_pictures(rows, folder)
    assert sorted(written) == sorted(folder.iterdir())
    for path in written:
        content = path.read_bytes()
        assert content.startswith(PNG)
        width, height = (int.from_bytes(content[at : at + 4]) for at in (16, 20))
        assert 200 < width < 6000, path
        assert 100 < height < 6000, path
    return [path.stem for path in written]


def test_everything_that_changes_in_training_is_drawn(tmp_path):
    """A picture that is not made, empty, or not a PNG."""
    few = ("decided", "residual_norm", "cka", "ees", "bits_per_character")
    rows = [r for r in study_rows(models=4, checkpoints=4, depths=7) if r.figure in few]
    assert names(rows, tmp_path / "new" / "folder") == [
        *("depth-decided", "depth-residual_norm", "depths-cka", "ees-in-training", "ees-against-bits"),
        *("models-ees", "models-bits_per_character", "ees-over-active_params", "decided-curves"),
    ]


def test_loss_stands_in_where_characters_were_not_counted(tmp_path):
    """EES against nothing where a study has no bits per character."""
    rows = [r for r in study_rows(models=1, checkpoints=2, depths=4) if r.figure in ("ees", "loss")]
    assert "ees-against-loss" in names(rows, tmp_path)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([failed("out of memory")], []),
        ([row()], ["models-ees"]),
        ([row("entropy", 1.0, depth=1)], []),
        (cell_rows(step=1), ["models-ees", "models-ees_star", "models-bits_per_character", "decided-curves"]),
    ],
    ids=["failed", "single", "no EES", "one checkpoint"],
)
def test_what_cannot_be_shown_is_left_out(rows, expected, tmp_path):
    """An error, or an empty picture, for want of rows."""
    assert names(rows, tmp_path) == expected


def test_every_chart_of_the_page_is_drawn(tmp_path):
    """A chart that can be seen and not be had as a file."""
    facts = [{"release_month": f"202{i}-01", "active_params_b": 10.0**i, "total_params_b": 20.0**i} for i in (1, 2)]
    rows = [
        found
        for i, known in enumerate(facts)
        for found in cell_rows(cell=str(i), model=f"m{i}", depths=5, replayed=True, tokens_seen=10**i, **known)
    ]
    drawn = {name for name in names(rows, tmp_path) if not name.startswith("models-")}
    axes = {f"ees-over-{name}" for name in ("release_month", "active_params", "total_params", "tokens_seen")}
    policies = {"policies-blocks", "policies-flops", "policies-bytes"}
    assert drawn == {*axes, *policies, "batches", "decided-curves"}


def test_charts_with_numbers_of_their_own(result, tmp_path):
    """The chart of a finding or of a single result left out, or named so that it leaves the folder."""
    (chart,) = charts_of(result)[:1]
    written = study_pictures([row()], tmp_path, form="svg", charts=[("result-1-../m-1", chart)])
    assert [path.name for path in written] == ["result-1----m-1.svg", "models-ees.svg"]
    text = written[0].read_text()
    assert "decided by depth" in text
    assert 'stroke="#0067a8"' in text  # as on the page, not the library's own blue


def test_a_group_has_one_colour_in_all_pictures(tmp_path):
    """A model that is blue in one picture and orange in the next, for not all models are in both."""
    rows = [*cell_rows(cell="a", model="a", depths=4), row(cell="b", model="b")]
    rows += cell_rows(cell="c", model="c", depths=4)
    drawn = {path.stem: path.read_text() for path in study_pictures(rows, tmp_path, form="svg")}
    for name in ("models-ees", "decided-curves"):
        colours = re.findall(r'aria-label="[^"]*group: (\w+)[^"]*"[^>]* (?:fill|stroke)="(#\w+)"', drawn[name])
        assert {"a": "#0067a8", "c": "#333333"}.items() <= dict(colours).items(), name


def test_what_was_measured_on_is_in_the_name(tmp_path):
    """Pictures of two workloads under one name, the second over the first; or a name that leaves the folder."""
    rows = [row(cell="a"), row(cell="b", workload="../b/c")]
    assert sorted(names(rows, tmp_path)) == [
        *("models-ees-1-b-c-on-text-logit-readout", "models-ees-2-mini-on-text-logit-readout")
    ]


def test_a_figure_of_any_name_stays_in_the_folder(tmp_path):
    """A figure of somebody else's rows that is written elsewhere, or not at all."""
    rows = [
        row("a/../b", depth * step, depth=depth, step=step, revision=str(step)) for depth in (1, 2) for step in (1, 2)
    ]
    assert names(rows, tmp_path) == ["depth-a----b"]
