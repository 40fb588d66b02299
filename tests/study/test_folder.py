"""The folder of a study: what another run, another program or a killed run left in it."""

import shutil

import huggingface_hub
import pyarrow.parquet as pq
import pytest

from exitbench.api import study
from exitbench.errors import ReportError, StudyError
from exitbench.models.toy import save_toy
from exitbench.study import attempt as attempt_module
from toy_study import make_place, rows_in, spec_of, stamps, write_spec


def test_rows_follow_the_words_of_the_spec(copied, place, monkeypatch):
    """Rows with yesterday's label or tags, figures that change with them, facts that cannot be taken back."""
    monkeypatch.setattr(attempt_module, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    before = rows_in(copied)
    facts = {"kind": "moe", "release_month": "2025-04", "step": 7}
    entry = {"model": "toy-0", "label": "renamed", "tags": {"pair": "a"}, "facts": facts}
    study(write_spec(place, spec_of(models=[entry, "toy-1"]), "words.yaml"), out=copied)
    after = rows_in(copied)
    renamed = [row for row in after if row["source"] == "toy-0"]
    assert len(renamed) == len(before) // 2
    for row in renamed:
        assert (row["model"], dict(row["tags"])) == ("renamed", {"pair": "a"})
        assert facts.items() <= row.items()
    assert [row for row in after if row["source"] == "toy-1"] == [row for row in before if row["source"] == "toy-1"]
    study(write_spec(place, spec_of(), "words.yaml"), out=copied)
    assert rows_in(copied) == before


@pytest.mark.parametrize("notes", [None, b"{", b'{"colour": "red"}'])
def test_rows_that_another_program_rewrote(copied, place, notes):
    """Facts of a model wiped out because they are not beside the rows any more, or a traceback."""
    file = min((copied / "cells").iterdir())
    before = pq.read_table(file)
    pq.write_table(before.replace_schema_metadata(notes and {"exitbench.observed": notes}), file)
    with pytest.raises(StudyError, match=r"\.parquet does not say what was observed of its model .* delete it and run"):
        study(place / "spec.yaml", out=copied)
    assert pq.read_table(file).equals(before)


def test_rows_that_broke_off(copied, place):
    """A message that names the file twice and breaks off in the middle, or a traceback."""
    file = min((copied / "cells").iterdir())
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ReportError) as refused:
        study(place / "spec.yaml", out=copied)
    assert str(refused.value) == f"{file} is no whole Parquet file; delete it and run its study again"


def test_rows_under_the_name_of_another_cell(copied, place):
    """Numbers of one model kept under the label of another, because a file was copied or renamed."""
    first, second, *_ = sorted((copied / "cells").iterdir())
    shutil.copy(first, second)
    with pytest.raises(StudyError, match=f"{second.name} holds the rows of cell {first.stem}; delete it and run"):
        study(place / "spec.yaml", out=copied)


def test_another_study_is_refused(copied, place):
    """Results of two studies mixed in one folder."""
    before = rows_in(copied)
    with pytest.raises(StudyError, match=r"holds another study: seed is 0 there and 1 now; choose another --out"):
        study(write_spec(place, spec_of(seed=1), "other.yaml"), out=copied)
    with pytest.raises(StudyError, match="models has toy-1 there and not now"):
        study(write_spec(place, spec_of(models=["toy-0"]), "other.yaml"), out=copied)
    assert rows_in(copied) == before


def test_a_folder_of_something_else_is_refused(place, tmp_path):
    """A home folder filled with results, or its files taken for scratch."""
    (tmp_path / "letter.txt").write_text("Dear")
    with pytest.raises(StudyError, match="holds no study"):
        study(write_spec(place, spec_of(), "else.yaml"), out=tmp_path)
    with pytest.raises(StudyError, match="holds no study"):
        study(place / "else.yaml", out=tmp_path / "letter.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_weights_that_changed_are_measured_again(tmp_path):
    """Figures of weights that are gone shown as those of the ones that are there, or the old ones lost."""
    make_place(tmp_path, num_models=1)
    spec = write_spec(tmp_path, spec_of(models=["toy-0"], workloads=["text.txt"]))
    study(spec, out=tmp_path / "out")
    (first,) = stamps(tmp_path / "out")
    save_toy(tmp_path / "toy-0", seed=5)
    (tmp_path / "out" / "work" / "of-a-killed-run" / "trace").mkdir(parents=True)
    run = study(spec, out=tmp_path / "out")
    assert not (tmp_path / "out" / "work").exists()
    (second,) = stamps(tmp_path / "out")
    assert (run.cells, run.measured) == (1, 1)
    assert first != second
    assert [path.name for path in (tmp_path / "out" / "stale").iterdir()] == [first]


def test_a_branch_that_moved(tmp_path, monkeypatch):
    """Figures of two commits of one branch side by side as if they were of the same weights."""
    repository = make_place(tmp_path, num_models=0) / "hub" / "models--org--toy"
    (repository / "refs").mkdir(parents=True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def measured(commit, seed, num_workloads):
        save_toy(repository / "snapshots" / commit, seed=seed)
        (repository / "refs" / "main").write_text(commit)
        spec = spec_of(models=["org/toy"], workloads=["text.txt", "prompts.jsonl", "mini"][:num_workloads])
        return study(write_spec(tmp_path, spec), out=tmp_path / "out", retry_failed=True)

    assert measured("a" * 40, seed=0, num_workloads=1).failed == ()
    (failure,) = measured("b" * 40, seed=5, num_workloads=2).failed
    assert f"commit {'a' * 40} (weights " in failure.reason
    assert f"commit {'b' * 40} (weights " in failure.reason
    assert "give one of the two commits as its revision" in failure.reason
    (before,) = {row["weights_sha256"] for row in rows_in(tmp_path / "out") if row["status"] == "ok"}

    assert measured("c" * 40, seed=0, num_workloads=3).failed == ()  # another commit, the same weights
    assert {row["weights_sha256"] for row in rows_in(tmp_path / "out")} == {before}


def test_a_verdict_goes_with_the_rows_that_it_was_of(copied, place, monkeypatch):
    """A run that is killed when new cells are to be measured leaves the verdict of before, as if it were of all."""
    for name in ("finding.json", "finding.md"):
        (copied / name).write_text("of yesterday")
    monkeypatch.setattr(attempt_module, "load", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    spec = spec_of(workloads=[*spec_of()["workloads"], {"workload": "mini", "on": "text", "limit": 2}])
    with pytest.raises(KeyboardInterrupt):
        study(write_spec(place, spec, "grown.yaml"), out=copied)
    assert not list(copied.glob("finding*"))


def test_traces_are_kept_when_asked(tmp_path):
    """Traces dropped that were wanted, kept under a name that leads nowhere, or left behind by rows that are stale."""
    make_place(tmp_path, num_models=1)
    spec = spec_of(models=["toy-0"], workloads=["text.txt"], keep_traces=True)
    study(write_spec(tmp_path, spec), out=tmp_path / "out")
    (file,) = (tmp_path / "out" / "cells").iterdir()
    assert (tmp_path / "out" / "traces" / file.stem / "manifest.json").is_file()
    assert not (tmp_path / "out" / "work").exists()

    for seed in (5, 0, 5):  # to other weights, back, and to the others again
        save_toy(tmp_path / "toy-0", seed=seed)
        study(tmp_path / "spec.yaml", out=tmp_path / "out")
    (now,) = (tmp_path / "out" / "cells").iterdir()
    assert [trace.name for trace in (tmp_path / "out" / "traces").iterdir()] == [now.stem]
    stale = {path.name for path in (tmp_path / "out" / "stale").iterdir()}
    assert {file.stem, file.name} <= stale <= {file.stem, file.name, now.stem, now.name}
