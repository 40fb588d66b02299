"""Pictures of a study as files."""

import pytest

from exitbench.report.study import study_pictures
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
        *("depth-decided", "depth-residual_norm", "depths-cka", "ees-in-training", "ees-against-bits", "models-ees")
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
        (cell_rows(step=1), ["models-ees"]),
    ],
    ids=["failed", "single", "no EES", "one checkpoint"],
)
def test_what_cannot_be_shown_is_left_out(rows, expected, tmp_path):
    """An error, or an empty picture, for want of rows."""
    assert names(rows, tmp_path) == expected


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
