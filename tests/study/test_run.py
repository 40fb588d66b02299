"""Running a study: cells share weights, failures are rows, and what is there is not measured again."""

import json
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from exitbench.api import study
from exitbench.errors import ExitbenchError, TraceError
from exitbench.models.cache import hash_file
from exitbench.models.toy import save_toy
from exitbench.policies.confidence import DecayingThreshold
from exitbench.policies.files import write_policy
from exitbench.study import attempt as attempt_module
from exitbench.study import ledger as ledger_module
from exitbench.study.ledger import Ledger
from exitbench.study.results import read_rows
from exitbench.study.run import StudyRun
from exitbench.trace.lock import sole_writer
from toy_study import make_place, rows_in, spec_of, stamps, write_spec


def test_what_a_study_leaves(finished, place):
    """A row without its identity, facts or reason; traces and scratch left lying about."""
    left = sorted(path.name for path in finished.iterdir())
    assert left == ["cells", "index.html", "plan.json", "run.json", "spec.yaml"]
    assert (finished / "spec.yaml").read_bytes() == (place / "spec.yaml").read_bytes()
    rows = rows_in(finished)
    assert {(row["model"], row["workload"], row["on"]) for row in rows} == {
        (f"toy-{i}", *workload) for i in range(2) for workload in (("prompts", "answers"), ("text", "text"))
    }
    for row in rows:
        assert (row["study"], row["source"], row["revision"]) == ("toys", row["model"], None)
        assert (row["family"], row["kind"], row["num_blocks"], row["tied_head"]) == ("llama", "dense", 4, True)
        assert (row["dtype"], row["device"], row["readout"], row["limit"]) == ("float32", "cpu", "logit", 4)
        assert (row["max_new_tokens"], row["document_tokens"]) == ((3, None) if row["on"] == "answers" else (None, 24))
        assert (row["value"] is None) == (row["status"] == "missing")
        assert (row["low"] is None) == (row["reason"] is not None)
        assert "torch" in row["libraries"]
        assert len(row["weights_sha256"]) == len(row["config_sha256"]) == len(row["workload_sha256"]) == 64
    assert {"ees", "ees_star", "decided", "batch", "eas", "aes_1pct", "n_failed"} <= {row["figure"] for row in rows}
    assert len({row["weights_sha256"] for row in rows}) == 2


def test_nothing_is_measured_twice(finished, place, monkeypatch):
    """A finished study that loads models again, or writes its rows anew."""
    monkeypatch.setattr(attempt_module, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    before = stamps(finished)
    run = study(place / "spec.yaml", out=finished)
    assert (run.done, run.measured, run.cells_s, run.overhead_share) == (4, 0, 0.0, None)
    assert stamps(finished) == before


def test_one_load_for_all_cells_of_a_model(place, tmp_path, monkeypatch):
    """Weights loaded once for each workload, or two models held at once."""
    loads, load = [], attempt_module.load
    monkeypatch.setattr(
        attempt_module, "load", lambda source, **k: loads.append(Path(source).name) or load(source, **k)
    )
    study(write_spec(place, spec_of(), "shared.yaml"), out=tmp_path / "out")
    assert loads == ["toy-0", "toy-1"]


def test_a_study_grows(copied, place):
    """Cells measured again because a workload was added, or the new one forgotten."""
    before = stamps(copied)
    spec = spec_of(workloads=[*spec_of()["workloads"], {"workload": "mini", "on": "text", "limit": 2}])
    run = study(write_spec(place, spec, "grown.yaml"), out=copied)
    assert (run.cells, run.done, run.measured) == (6, 6, 2)
    assert before.items() <= stamps(copied).items()


def test_two_runs_in_one_folder(place, finished):
    """Two runs that overwrite each other's scratch."""
    with sole_writer(finished), pytest.raises(TraceError, match="another run is writing"):
        study(place / "spec.yaml", out=finished)


def test_weights_that_change_meanwhile(tmp_path, monkeypatch):
    """New weights measured under the name of the old ones."""
    make_place(tmp_path, num_models=1)
    load = attempt_module.load

    def late(source, **options):
        save_toy(Path(source), seed=5)
        return load(source, **options)

    monkeypatch.setattr(attempt_module, "load", late)
    run = study(write_spec(tmp_path, spec_of(models=["toy-0"])), out=tmp_path / "out")
    assert ["changed while the study ran" in failure.reason for failure in run.failed] == [True, True]


def broken_place(folder):
    """Models toy-0, which is whole, and broken, whose weights do not fit its config."""
    make_place(folder, num_models=1)
    save_toy(folder / "broken", seed=3)
    config = json.loads((folder / "broken" / "config.json").read_text())
    (folder / "broken" / "config.json").write_text(json.dumps(config | {"hidden_size": 48}))
    return folder


def test_failures_are_rows(tmp_path, monkeypatch):
    """A model that cannot be loaded ends the study, is loaded for every cell, or leaves no reason behind."""
    broken_place(tmp_path)
    loads, load = [], attempt_module.load
    monkeypatch.setattr(
        attempt_module, "load", lambda source, **k: loads.append(Path(source).name) or load(source, **k)
    )
    entry = {"model": "broken", "tags": {"a": "b"}, "facts": {"kind": "ssm"}}
    spec = write_spec(tmp_path, spec_of(models=[entry, "toy-0"]))
    run = study(spec, out=tmp_path / "out")
    assert (run.cells, run.done, run.measured, loads) == (4, 2, 4, ["broken", "toy-0"])
    assert [failure.name for failure in run.failed] == ["broken on prompts (answers)", "broken on text (text)"]
    failed = [row for row in rows_in(tmp_path / "out") if row["status"] == "failed"]
    assert [row["figure"] for row in failed] == ["cell", "cell"]
    for row in failed:
        assert row["reason"] == run.failed[0].reason
        assert (row["model"], row["kind"], dict(row["tags"]), row["value"]) == ("broken", "ssm", {"a": "b"}, None)

    again = study(spec, out=tmp_path / "out")
    assert (again.measured, again.failed, loads) == (0, run.failed, ["broken", "toy-0"])

    save_toy(tmp_path / "broken", seed=3)  # mended: other contents, so other cells
    mended = study(spec, out=tmp_path / "out")
    assert (mended.measured, mended.failed) == (2, ())


def test_failures_are_tried_again_when_asked(tmp_path, monkeypatch):
    """A failure that passes, such as a full memory, kept for good; or done cells measured with it."""
    make_place(tmp_path, num_models=1)
    spec = write_spec(tmp_path, spec_of(models=["toy-0"]))
    measure = attempt_module.measure

    def failing(loaded, cell, *arguments, **options):
        if cell.prompts.on == "text":
            raise RuntimeError("out of\nmemory")
        return measure(loaded, cell, *arguments, **options)

    monkeypatch.setattr(attempt_module, "measure", failing)
    first = study(spec, out=tmp_path / "out")
    (failure,) = first.failed
    assert failure.reason.startswith("unexpected RuntimeError: out of memory (test_run.py, line ")
    monkeypatch.setattr(attempt_module, "measure", measure)
    before = stamps(tmp_path / "out")
    second = study(spec, out=tmp_path / "out", retry_failed=True)
    assert (second.measured, second.done, second.failed) == (1, 2, ())
    assert len(before.items() & stamps(tmp_path / "out").items()) == 1


def test_an_interrupt_is_no_failure(tmp_path, monkeypatch):
    """Ctrl-C recorded as the failure of a cell, and the next one begun."""
    make_place(tmp_path, num_models=1)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(attempt_module, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study(write_spec(tmp_path, spec_of(models=["toy-0"])), out=tmp_path / "out")
    assert not (tmp_path / "out" / "cells").exists()


def test_a_model_that_cannot_be_described_is_a_failure(tmp_path, monkeypatch):
    """One odd model that ends the study, because its facts are asked for again when it has failed."""
    make_place(tmp_path, num_models=1)
    described = attempt_module.observed_of

    def odd(cell, loaded):
        if loaded is not None:
            raise NotImplementedError("no head")
        return described(cell, loaded)

    monkeypatch.setattr(attempt_module, "observed_of", odd)
    run = study(write_spec(tmp_path, spec_of(models=["toy-0"])), out=tmp_path / "out")
    assert ["unexpected NotImplementedError: no head" in failure.reason for failure in run.failed] == [True, True]


@pytest.mark.parametrize("settings", [{"device": "cuda:99"}, {"device": "gpu"}, {"attention": "quick"}])
def test_a_setting_that_fails_everywhere_ends_the_study(place, tmp_path, settings):
    """A thousand failed rows for one word in the settings."""
    with pytest.raises(ExitbenchError, match=r"device|attention"):
        study(write_spec(place, spec_of(settings=settings), "bad.yaml"), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _of_other_libraries(trace):
    content = json.loads((trace / "manifest.json").read_text())
    content["libraries"]["torch"] = "1.0"
    (trace / "manifest.json").write_text(json.dumps(content))


def _of_a_model_that_lay_elsewhere(trace):
    content = json.loads((trace / "manifest.json").read_text())
    content["model"]["source"] = "/gone/toy-0"
    (trace / "manifest.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "damage",
    [
        _of_other_libraries,
        _of_a_model_that_lay_elsewhere,
        lambda trace: (trace / "manifest.json").write_text('{"schema_version": 3, '),
        lambda trace: (trace / "manifest.json").write_text('{"schema_version": 99}'),
        lambda trace: (trace / "manifest.json").unlink(),
        lambda trace: (trace / "samples.jsonl").write_text("?"),
        lambda trace: min(trace.glob("part-*.parquet")).write_bytes(b"PAR1"),
    ],
)
def test_scratch_of_no_use_is_dropped(tmp_path, monkeypatch, damage):
    """A cell that fails for ever after an upgrade, a move or a crash, or one that mixes samples of two versions."""
    make_place(tmp_path, num_models=1)
    spec = write_spec(tmp_path, spec_of(models=["toy-0"], workloads=["text.txt"]))
    with monkeypatch.context() as patched:
        patched.setattr("exitbench.study.measure.score", lambda *_, **__: (_ for _ in ()).throw(TraceError("stop")))
        assert study(spec, out=tmp_path / "out").failed[0].reason == "stop"
    (trace,) = (tmp_path / "out" / "work").glob("*/trace")
    damage(trace)
    run = study(spec, out=tmp_path / "out", retry_failed=True)
    assert run.failed == ()
    assert "torch 1.0" not in rows_in(tmp_path / "out")[0]["libraries"]


def test_policy_files_of_one_class(tmp_path):
    """Two policies under one name, so that the finished study cannot be read."""
    make_place(tmp_path, num_models=1)
    for temperature, name in ((1.0, "a/fit.json"), (9.0, "b/fit.json"), (3.0, "other.json")):
        write_policy(tmp_path / name, DecayingThreshold(temperature=temperature))
    policies = [*("a/fit.json", "b/fit.json", "other.json"), {"policy": "calm-decay", "probes": "every"}]
    spec = spec_of(models=["toy-0"], workloads=["prompts.jsonl"], measure=[], policies=policies)
    spec["settings"]["limit"] = 12
    run = study(write_spec(tmp_path, spec), out=tmp_path / "out")
    variants = {row.variant for row in read_rows([run.folder])}
    hashes = [hash_file(tmp_path / name)[:8] for name in ("a/fit.json", "b/fit.json")]
    files = [*(f" fit.json {short}" for short in hashes), " other.json", ""]
    assert variants == {f"calm-decay every{file}" for file in files}


def test_time_is_booked_once(monkeypatch):
    """Time of cells counted as the runner's own, or the other way round; time of a failing cell lost."""
    now = [0.0]
    monkeypatch.setattr(ledger_module, "perf_counter", lambda: now[0])
    ledger = Ledger(began=0.0)
    now[0] = 1.0
    with ledger.cell():
        now[0] += 50.0
    now[0] += 0.5
    with suppress(ValueError), ledger.cell():
        now[0] += 25.0
        raise ValueError
    assert (ledger.cells_s, ledger.overhead_s) == (75.0, 1.5)


def test_the_summary_is_kept(place, finished):
    """An overhead that nobody can look up."""
    summary = json.loads((finished / "run.json").read_text())
    assert (summary["cells"], summary["done"], summary["failed"]) == (4, 4, [])
    assert summary["overhead_s"] > 0


def test_overhead_is_small(tmp_path):
    """Planning, writing and tidying that cost more than the two percent of cells of a minute that they may."""
    make_place(tmp_path, num_models=2)
    run = study(write_spec(tmp_path, spec_of()), out=tmp_path / "out")
    assert run.cells_s > 0
    assert run.overhead_share == run.overhead_s / run.cells_s
    assert run.overhead_s / run.measured < 0.02 * 60
    seconds = {file: pq.read_table(file)["seconds"][0].as_py() for file in (tmp_path / "out" / "cells").iterdir()}
    assert 0 < sum(seconds.values()) <= run.cells_s


def test_no_share_of_cells_that_never_came(tmp_path):
    """A division by nothing where every cell lost its workers, and no summary of the run."""
    run = StudyRun(folder=tmp_path, cells=1, done=0, failed=(), measured=1, cells_s=0.0, overhead_s=2.0)
    assert run.summary()["overhead_share"] is None
