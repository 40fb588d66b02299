"""Results as CSV, Parquet and Markdown: every row, nothing that a terminal obeys, nothing that a page runs."""

import csv
import json
from dataclasses import asdict

import pytest

from exitbench.api import report
from exitbench.errors import ReportError
from exitbench.report.study_folders import report_studies
from exitbench.study.results import rows_of_file
from exitbench.study.rows import write_rows
from findings import finding
from study_rows import cell_rows, failed, row

HOSTILE = "</td><script>x</script>|`\x1b[31m\u202e\n# heading"


@pytest.fixture
def rows():
    """A cell that was measured and replayed, under names that attack, and one that failed."""
    names = {"model": HOSTILE, "workload": HOSTILE, "tags": {"a": HOSTILE}}
    return [*cell_rows(cell="a", replayed=True, **names), failed(HOSTILE, cell="b", model="big")]


@pytest.fixture
def study(rows, tmp_path):
    """The same as a study's folder, with a finding."""
    folder = tmp_path / "s"
    for cell in ("a", "b"):
        write_rows(folder / "cells" / f"{cell}.parquet", [row for row in rows if row.cell == cell])
    (folder / "finding.json").write_text(json.dumps(finding().to_json()))
    return folder


def test_parquet_holds_every_row_as_it_was(study, rows, tmp_path):
    """A row, a tag or a character lost between a study and the file that others read."""
    assert report_studies([study], tmp_path / "all.parquet", form="parquet") == 1
    assert rows_of_file(tmp_path / "all.parquet") == rows


def test_csv_holds_every_row_and_no_escape(study, rows, tmp_path):
    """A missing value as 0, a number cut short, or a name that moves the cursor of whoever prints the file."""
    report_studies([study], tmp_path / "all.csv", form="csv")
    text = (tmp_path / "all.csv").read_text()
    assert "\x1b" not in text
    assert "\u202e" not in text
    read = list(csv.DictReader(text.splitlines()))
    assert len(read) == len(rows)
    assert list(read[0]) == list(asdict(rows[0]))
    for line, written in zip(read, rows, strict=True):
        assert line["value"] == ("" if written.value is None else repr(float(written.value)))
        assert line["figure"] == written.figure


def test_spreadsheets_run_nothing(tmp_path):
    """A model's name that a spreadsheet takes for a formula; or a negative number that becomes text."""
    folder = tmp_path / "s" / "cells"
    write_rows(folder / "a.parquet", [row("ees", -0.5, model='=HYPERLINK("x")', source="@SUM(1)", workload="+1")])
    report_studies([tmp_path / "s"], tmp_path / "all.csv", form="csv")
    (line,) = csv.DictReader((tmp_path / "all.csv").read_text().splitlines())
    assert [line[name] for name in ("model", "source", "workload", "value")] == [
        '\'=HYPERLINK("x")',
        "'@SUM(1)",
        "'+1",
        "-0.5",
    ]


def test_rows_in_a_file_are_reported_as_those_of_a_folder(study, rows, tmp_path):
    """Rows that were exported and cannot be read again."""
    report_studies([study], tmp_path / "all.parquet", form="parquet")
    assert report([tmp_path / "all.parquet"], out=tmp_path / "again.csv", form="csv").failed_cells == 1
    assert len((tmp_path / "again.csv").read_text().splitlines()) == 1 + len(rows)


def test_what_cannot_be_written_is_told(study, tmp_path):
    """A crash of a library, or an empty folder of pictures, where nothing can be drawn or stored."""
    (tmp_path / "file").touch()
    with pytest.raises(ReportError, match="is a file, and pictures go into a folder"):
        report_studies([study], tmp_path / "file", form="png")
    (study / "cells" / "a.parquet").unlink()
    (study / "finding.json").unlink()
    with pytest.raises(ReportError, match="nothing to draw: no cell was measured"):
        report_studies([study], tmp_path / "pictures", form="svg")
    assert not (tmp_path / "pictures").exists()


def test_markdown_shows_cells_failures_and_finding(study, tmp_path):
    """A name that becomes markup or another column, or a failed cell that is not told."""
    report_studies([study], tmp_path / "all.md", form="md")
    text = (tmp_path / "all.md").read_text()
    assert "<script" not in text
    assert "\x1b" not in text
    assert "## Failed cells" in text
    assert "## Findings" in text
    assert "    exitbench study example.yaml" in text
    assert "n/a: too few prompts" in text
    table = [line for line in text.split("## Every cell")[1].split("##")[0].splitlines() if line.startswith("|")]
    assert len(table) == 3
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1


@pytest.mark.parametrize("form", ["html", "md", "csv", "parquet"])
def test_newer_rows_are_refused_and_left_as_they_are(study, tmp_path, form):
    """Columns of a newer version dropped in silence, or a report that was there before overwritten."""
    import pyarrow.parquet as pq

    file = study / "cells" / "a.parquet"
    table = pq.read_table(file)
    pq.write_table(table.append_column("tomorrow", table["value"]), file)
    before, out = file.read_bytes(), tmp_path / "there"
    out.write_text("before")
    with pytest.raises(ReportError, match=r"a.parquet: unknown column tomorrow; .*newer exitbench: upgrade"):
        report_studies([study], out, form=form)
    assert (file.read_bytes(), out.read_text()) == (before, "before")
