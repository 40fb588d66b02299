"""Reading rows: whole files only, and no two answers to one question."""

from dataclasses import fields, replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitbench.errors import ReportError
from exitbench.study.results import IDENTITY, MEASURED, read_rows, read_studies, rows_of_file
from exitbench.study.rows import Row, write_rows
from result_rows import model_row


def _study(folder, *cells):
    for index, rows in enumerate(cells):
        write_rows(folder / "cells" / f"{index}.parquet", list(rows))
    return folder


def _refused(*paths):
    with pytest.raises(ReportError) as refused:
        read_rows(paths)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_rows_come_back_as_they_were(tmp_path):
    """A tag, a null or a place that is lost between writing and reading."""
    rows = [
        model_row("a", 0.25, tags={"seed": "0", "arm": "plain"}, tied_head=True, step=10, active_params_b=0.1),
        model_row("a", 0.5, "eas", variant="logit_cosine", at=0.5),
        model_row("a", None, "ees_star"),
        model_row("b", None, "cell", status="failed", reason="out of memory", n_tokens=None, n_prompts=None),
    ]
    assert read_rows([_study(tmp_path, rows[:3], rows[3:])]) == rows
    assert rows_of_file(tmp_path / "cells" / "1.parquet") == rows[3:]


@given(text=st.text(min_size=1).filter(lambda text: text.isprintable() or "\x1b" in text))
@settings(max_examples=30, deadline=None)
def test_labels_are_data(tmp_path_factory, text):
    """A label with an escape sequence that is changed, or refused, on its way."""
    row = model_row("m", label_of_test := 0.1, tags={"note": text})
    file = tmp_path_factory.mktemp("labels") / "cell.parquet"
    write_rows(file, [replace(row, model=text, value=label_of_test)])
    (found,) = read_rows([file])
    assert (found.model, found.tags) == (text, {"note": text})


def test_every_column_has_one_of_three_parts():
    """A new column that decides numbers and is no part of what tells two rows apart."""
    names = {f.name for f in fields(Row)}
    facts = {
        "family",
        "generation",
        "release_month",
        "kind",
        "stage",
        "total_params_b",
        "active_params_b",
        "num_blocks",
    }
    facts |= {"hidden_size", "vocab_size", "tied_head", "step", "tokens_seen", "tags"}
    outcome = {"status", "value", "low", "high", "n_tokens", "n_prompts", "unit", "reason"}
    origin = {"study", "cell", "command", "created", "seconds"}
    assert names == {*IDENTITY, *MEASURED} | facts | outcome | origin


def test_one_figure_measured_twice(tmp_path):
    """A model of two studies that counts as two models, or a second measurement that wins in silence."""
    row = model_row("a", 0.25)
    again = replace(row, study="other", cell="x", created="2027-01-01T00:00:00Z", seconds=9.0, command="again")
    assert read_rows([_study(tmp_path / "one", [row]), _study(tmp_path / "two", [again])]) == [row]
    assert [len(study) for study in read_studies([tmp_path / "one", tmp_path / "two"])] == [1, 1]


def test_two_answers_to_one_question(tmp_path):
    """Whichever of two numbers is read last being believed; both must be seen, and where they are."""
    one = _study(tmp_path / "one", [model_row("a", 0.25)])
    two = _study(tmp_path / "two", [model_row("a", 0.26)])
    said = _refused(one, two)
    assert "0.25 [0.24, 0.26] (n = 1000 tokens, 20 prompts)" in said
    assert "0.26 [0.25, 0.27] (n = 1000 tokens, 20 prompts)" in said
    assert str(one) in said
    assert str(two) in said
    gone = _study(tmp_path / "three", [model_row("a", None)])
    assert "missing (there is none)" in _refused(one, gone)


KNOWN = {"weights_sha256": "ab" * 32, "workload_sha256": "cd" * 32}


@pytest.mark.parametrize("name", ["model", "source", "revision", "workload"])
def test_another_name_hides_no_contradiction(tmp_path, name):
    """The same weights on the same prompts, measured twice with different numbers, under two labels or paths."""
    one = model_row("a", 0.25, **KNOWN)
    two = replace(one, **{name: "renamed"}, value=0.26)
    said = _refused(_study(tmp_path / "one", [one]), _study(tmp_path / "two", [two]))
    assert ("renamed" in said) == (name != "source")
    assert "0.25" in said
    assert "0.26" in said


def test_two_labels_of_one_model_stay(tmp_path):
    """A model that stands in two groups and vanishes from one of them; or one that came by two paths counted twice."""
    one = model_row("a", 0.25, **KNOWN)
    other_label, other_path = replace(one, model="b", tags={"arm": "b"}), replace(one, source="elsewhere/a")
    assert read_rows([_study(tmp_path, [one], [other_label], [other_path])]) == [one, other_label]


@pytest.mark.parametrize("name", ["revision", "weights_sha256", "readout", "dtype", "variant", "target", "libraries"])
def test_another_identity_is_no_conflict(tmp_path, name):
    """Checkpoints, or policies, of one model taken for contradictions."""
    rows = [model_row("a", 0.25, **{name: "one"}), model_row("a", 0.26, **{name: "two"})]
    assert read_rows([_study(tmp_path, rows)]) == rows


def test_files_that_are_not_whole(tmp_path):
    """A cell that broke off, or something else of that name, passed over as if it had no rows."""
    file = _study(tmp_path, [model_row("a")]) / "cells" / "0.parquet"
    whole = file.read_bytes()
    for broken in (whole[: len(whole) // 2], whole[:-1], b"", b"PAR1PAR1", b"ees 0.2"):
        file.write_bytes(broken)
        said = _refused(tmp_path)
        assert said == f"{file} is no whole Parquet file; delete it and run its study again"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.drop_columns(["value"]), "no column value"),
        (lambda table: table.slice(0, 0), "no row; delete it and run its study again"),
        (lambda table: table.append_column("colour", pa.array(["red"])), "unknown column colour"),
        (
            lambda table: table.set_column(table.schema.get_field_index("value"), "value", pa.array(["0.2"])),
            "column value is string, expected double",
        ),
        (
            lambda table: table.set_column(table.schema.get_field_index("value"), "value", pa.array([float("nan")])),
            "value of ees is nan, not a number",
        ),
        (
            lambda table: table.set_column(table.schema.get_field_index("status"), "status", pa.array(["fine"])),
            "status is 'fine', expected one of ok, missing, failed",
        ),
        (
            lambda table: table.set_column(
                table.schema.get_field_index("model"), "model", pa.array([None], pa.string())
            ),
            "a row without model",
        ),
        (
            lambda table: table.set_column(table.schema.get_field_index("status"), "status", pa.array(["missing"])),
            "ees has status missing and value 0.2",
        ),
    ],
)
def test_other_schemas(tmp_path, change, words):
    """A column that is missing read as nulls, or one of a newer version left out in silence."""
    file = _study(tmp_path, [model_row("a")]) / "cells" / "0.parquet"
    pq.write_table(change(pq.read_table(file)), file)
    assert words in _refused(tmp_path)


def test_paths_without_rows(tmp_path):
    """A mistyped folder that is a study without models."""
    assert "no such folder" in _refused(tmp_path / "nowhere")
    assert "it has no cells" in _refused(tmp_path)


def test_messages_are_plain(tmp_path):
    """A label that colours, or rewrites, the terminal that shows it."""
    rows = [[model_row("\x1b[31mred\x1b]0;title\x07", 0.25)], [model_row("\x1b[31mred\x1b]0;title\x07", 0.26)]]
    said = _refused(_study(tmp_path, *rows))
    assert "\x1b" not in said
    assert "ees of red on text" in said
