"""The commands that read what was measured: score and report; and the list of what there is."""

import json
from dataclasses import replace

import pytest

from command_line import assert_refused, exitbench
from exitbench.study.results import rows_of_file
from exitbench.study.rows import write_rows
from study_rows import cell_rows, failed, row


def test_score_of_a_run_or_its_trace_is_the_saved_one(place):
    """A score that depends on which folder is named, or on when it is computed."""
    saved = json.loads((place / "finished" / "score.json").read_text())
    for folder in (place / "finished", place / "finished" / "trace"):
        outcome = exitbench("score", folder, "--json")
        assert (outcome.code, outcome.err) == (0, "")
        assert json.loads(outcome.out) == saved
    several = json.loads(exitbench("score", place / "finished", place / "finished", "--json").out)
    assert several == [saved, saved]
    assert saved["verdict"][:8] in exitbench("score", place / "finished").out


def test_seed_changes_intervals_and_nothing_else(place):
    """A seed that is ignored, or one that moves a point estimate."""
    saved = json.loads((place / "finished" / "score.json").read_text())
    other = json.loads(exitbench("score", place / "finished", "--seed", "1", "--json").out)
    assert other["seed"] == 1
    assert other["ees"]["value"] == saved["ees"]["value"]
    assert other["entropy"]["low"] != saved["entropy"]["low"]


def test_manifest_of_another_schema_is_refused(finished):
    """A trace of a later version read as if it were of this one."""
    manifest = finished / "trace" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema_version": 3', '"schema_version": 4'))
    assert_refused(exitbench("score", finished), "schema version 4", "upgrade")


def test_report_on_folders_and_saved_scores(place, tmp_path):
    """A report that needs a trace where a saved score is given, or fetches something from elsewhere."""
    finished = place / "finished"
    outcome = exitbench("report", finished, finished / "score.json", "--out", tmp_path / "page.html")
    assert (outcome.code, outcome.out) == (0, f"{tmp_path / 'page.html'}\n")
    page = (tmp_path / "page.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert page.count("EES 0.") >= 2
    assert exitbench("report", finished, finished, "--format", "svg", "--out", tmp_path / "pictures").code == 0
    pictures = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert {"batches.svg", "policies-flops.svg"} < pictures
    charts = (tmp_path / "page.html").read_text().count('data-spec="r0-')
    assert sum(name.startswith("result-1-") for name in pictures) == charts
    assert not any(name.startswith("result-2-") for name in pictures), "one folder given twice is one result"


def test_many_results_are_not_shown_each_in_full(place, tmp_path, monkeypatch):
    """A page that grows with every result until nobody can open it; or one without the tokens it has room for."""
    monkeypatch.setattr("exitbench.api.reading.MOST_IN_FULL", 1)
    finished = place / "finished"
    assert exitbench("report", finished, finished / "score.json", "--out", tmp_path / "page.html").code == 0
    page = (tmp_path / "page.html").read_text()
    assert 'data-spec="study-models"' in page
    assert 'data-payload="explored-0-tokens"' in page
    assert 'id="r0"' not in page


def test_report_on_studies_beside_runs(place, tmp_path):
    """A run left out beside a study, its tokens or policies lost, or a cell that failed not told by the exit code."""
    write_rows(tmp_path / "s" / "cells" / "a.parquet", cell_rows(cell="a", model="of the study"))
    finished = place / "finished"
    outcome = exitbench("report", tmp_path / "s", finished, "--out", tmp_path / "both.html")
    assert (outcome.code, outcome.out) == (0, f"{tmp_path / 'both.html'}\n")
    page = (tmp_path / "both.html").read_text()
    assert "of the study" in page
    assert 'data-payload="explored-0-tokens"' in page
    assert 'data-spec="study-policies"' in page
    assert exitbench("report", tmp_path / "s", finished, "--format", "parquet").code == 0
    rows = rows_of_file(tmp_path / "report.parquet")
    assert {row.study for row in rows} == {"example", "run"}
    assert exitbench("report", finished, "--format", "md").code == 0
    assert "## Every cell" in (tmp_path / "report.md").read_text()
    assert exitbench("report", tmp_path / "s", "--format", "svg").code == 0
    drawn = ("bits_per_character", "ees", "ees_star")
    pictures = sorted(file.name for file in (tmp_path / "report-figures").iterdir())
    assert pictures == ["decided-curves.svg", *(f"models-{figure}.svg" for figure in drawn)]
    write_rows(tmp_path / "t" / "cells" / "a.parquet", [replace(next(r for r in rows if r.study == "run"), value=0.5)])
    outcome = exitbench("report", tmp_path / "t", finished, "--format", "csv")
    assert_refused(outcome, "two rows of one identity with different numbers")
    write_rows(tmp_path / "s" / "cells" / "b.parquet", [failed("out of memory", cell="b", model="big")])
    outcome = exitbench("report", tmp_path / "s", finished, "--format", "csv")
    assert outcome.code == 1
    assert "1 cells failed" in outcome.err


def test_report_on_a_study(tmp_path, place):
    """A study's folder taken for a trace's, failed cells that go unnoticed, or two kinds of result in one page."""
    write_rows(tmp_path / "study" / "cells" / "a.parquet", [row(cell="a"), row("decided", 0.5, cell="a", depth=1)])
    page = tmp_path / "page.html"
    outcome = exitbench("report", tmp_path / "study", "--out", page)
    assert (outcome.code, outcome.out) == (0, f"{page}\n")
    assert "Every cell" in page.read_text()
    write_rows(tmp_path / "study" / "cells" / "b.parquet", [failed("out of memory", cell="b")])
    outcome = exitbench("report", tmp_path / "study", "--out", page)
    assert (outcome.code, outcome.out) == (1, f"{page}\n")
    assert "1 cells failed" in outcome.err


@pytest.mark.parametrize("content", ["{}", "[]", "not JSON", '{"schema_version": 1}', '{"schema_version": 99}'])
def test_report_on_what_is_no_result_is_refused(tmp_path, content):
    """Any JSON file taken for a score, or a report written about nothing."""
    (tmp_path / "score.json").write_text(content)
    assert_refused(exitbench("report", tmp_path / "score.json", "--out", tmp_path / "page.html"))
    assert_refused(exitbench("report", tmp_path, "--out", tmp_path / "page.html"), "holds no result")
    assert not (tmp_path / "page.html").exists()


def test_report_that_cannot_be_written_is_refused(place, tmp_path):
    """A report into a place that is no folder: a traceback after all the work."""
    (tmp_path / "file").write_text("")
    assert_refused(exitbench("report", place / "finished", "--out", tmp_path / "file" / "page.html"), "cannot write")


@pytest.mark.parametrize(
    ("kind", "name"),
    [("models", "smollm2-135m-instruct"), ("workloads", "mini"), ("signals", "top1_id"), ("policies", "top1-prob")],
)
def test_list(kind, name):
    """A registry that the command line cannot show."""
    outcome = exitbench("list", kind, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert name in [row["name"] for row in json.loads(outcome.out)]
    assert name in exitbench("list", kind).out


def test_list_models_shows_the_catalogue_too():
    """Names cut short in a narrow terminal or a pipe, or doubtful facts that look like all others."""
    shown = exitbench("list", "models").out
    assert "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T" in shown
    assert "46.7 / 12.9" in shown
    assert "2019-02?" in shown
    rows = json.loads(exitbench("list", "models", "--json").out)
    assert {row["list"] for row in rows} == {"pinned", "catalogue"}
    gpt2 = next(row for row in rows if row["name"] == "openai-community/gpt2")
    assert (gpt2["release_month"], gpt2["unverified"], gpt2["twin_group"]) == ("2019-02", ["release_month"], None)


def test_list_says_which_signals_are_optional():
    """An optional signal that nobody finds, or that everybody expects in every trace."""
    rows = {row["name"]: row["recorded"] for row in json.loads(exitbench("list", "signals", "--json").out)}
    assert (rows["entropy"], rows["kl_prev"]) == ("by default", "with --also")


def test_list_policies_says_what_each_needs():
    """An oracle listed as something that can be run, or a policy without its source."""
    rows = {row["name"]: row for row in json.loads(exitbench("list", "policies", "--json").out)}
    assert rows["oracle-stable"]["state"] == "replay only"
    assert (rows["hidden-cosine"]["readout"], rows["margin"]["readout"]) == ("no", "yes")
    assert (rows["gate"]["trained"], rows["margin"]["signals"]) == ("yes", "margin")
    assert "arXiv 2207.07061" in rows["calm-decay"]["criterion"]
    assert "Source: softmax thresholds go back to BranchyNet" in rows["top1-prob"]["criterion"]
