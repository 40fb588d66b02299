"""Reading a trace folder back, sound or damaged."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from exitbench.errors import CorruptTraceError, TraceError
from exitbench.trace.collect import collect
from exitbench.trace.store import is_trace_folder, read_manifest, read_trace


def test_sound_trace(finished, prompts):
    """Samples in another order, rows of the wrong sample, a reference lost."""
    trace = read_trace(finished)
    assert [sample.id for sample in trace.samples] == [sample.id for sample in prompts.samples]
    assert [sample.turns for sample in trace.samples] == [sample.turns for sample in prompts.samples]
    assert trace.failures == ()
    assert trace.num_blocks == 3
    for index in range(5):
        rows = pq.read_table(finished / f"part-{index:05d}.parquet").to_pylist()
        mine = trace.sample_index == index
        assert [row["target_id"] for row in rows] == trace.target_id[mine].tolist()
        assert np.array_equal([row["top1_id"] for row in rows], trace.signals["top1_id"][mine])
        assert {row["sample_id"] for row in rows} == {f"s{index}"}
        assert all(row["hidden_cosine_prev"][0] is None for row in rows)
        assert all(None not in row["hidden_cosine_prev"][1:] for row in rows)


def test_files_of_a_trace(finished):
    """A file too many: a reader in another language would take it for data."""
    names = {path.name for path in finished.iterdir()}
    assert names == {
        *("manifest.json", "samples.jsonl", "tokens.parquet"),
        *(f"answers-{i:05d}.json" for i in range(3)),
        *(f"part-{i:05d}.parquet" for i in range(5)),
    }
    assert is_trace_folder(finished)
    assert not is_trace_folder(finished.parent)


def test_no_trace_there(tmp_path):
    """A traceback about a missing file."""
    with pytest.raises(TraceError, match=r"holds no trace \(no manifest\.json\); make one with 'exitbench trace"):
        read_trace(tmp_path)
    with pytest.raises(TraceError, match="holds no trace"):
        read_trace(tmp_path / "nowhere")


@pytest.mark.parametrize("content", ["", "not JSON", "[]", "{}", '{"schema_version": 1}', "\xff\xfe"])
def test_broken_manifest(copied, content):
    """A manifest that is read in part, or that ends in a traceback."""
    (copied / "manifest.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(TraceError, match=r"manifest\.json") as said:
        read_trace(copied)
    assert "\n" not in str(said.value)


def test_manifest_that_may_not_be_read(copied, monkeypatch):
    """A traceback about permissions."""

    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", forbidden)
    with pytest.raises(TraceError, match=r"cannot read .*manifest\.json: Permission denied; check"):
        read_trace(copied)


@pytest.mark.parametrize("version", [4, 2, "3"])
def test_other_schema_is_refused(copied, version, loaded, prompts, options):
    """A trace of a later version read, or resumed, as if it were of this one."""
    file = copied / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema_version": version}))
    before = file.read_bytes()
    with pytest.raises(TraceError, match=f"has schema version {version}, this exitbench reads version 3; upgrade"):
        read_trace(copied)
    with pytest.raises(TraceError, match="schema version"):
        collect(loaded, prompts, copied, options=options)
    assert file.read_bytes() == before


def test_unknown_key_in_a_manifest_is_refused(copied):
    """A setting that this version does not know, ignored in silence."""
    file = copied / "manifest.json"
    content = json.loads(file.read_text())
    content["settings"]["temperature"] = 0.7
    file.write_text(json.dumps(content))
    with pytest.raises(CorruptTraceError, match="temperature"):
        read_manifest(copied)


def test_corrupt_part_is_named_and_can_be_left_out(copied):
    """A damaged part that is scored, dropped in silence, or that makes all others useless."""
    (copied / "part-00003.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(CorruptTraceError, match=r"part-00003\.parquet cannot be read.*--skip-corrupt"):
        read_trace(copied)
    trace = read_trace(copied, skip_corrupt=True)
    assert sorted(set(trace.sample_index)) == [0, 1, 2, 4]
    assert [(f.sample_id, f.reason) for f in trace.failures] == [
        ("s3", "part-00003.parquet is corrupt and was left out")
    ]
    assert len(trace.samples) == 5


def test_part_of_another_sample_is_corrupt(copied):
    """One prompt's rows counted for two, where a part was copied over another."""
    shutil.copy(copied / "part-00000.parquet", copied / "part-00002.parquet")
    with pytest.raises(CorruptTraceError, match=r"part-00002\.parquet cannot be read \(its sample_id is not 's2'"):
        read_trace(copied)
    assert [failure.sample_id for failure in read_trace(copied, skip_corrupt=True).failures] == ["s2"]


def test_corrupt_part_is_found_before_anything_is_traced(copied, loaded, prompts, options, monkeypatch):
    """Hours of tracing that end with a message about a part that was there all along, or with unfit advice."""
    (copied / "part-00000.parquet").unlink()
    (copied / "part-00004.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr("exitbench.trace.record.Recorder.rows", lambda *_: pytest.fail("a sample was traced"))
    with pytest.raises(CorruptTraceError, match=r"part-00004\.parquet .*; delete it and run the trace again$"):
        collect(loaded, prompts, copied, options=options)


def test_corrupt_part_deleted_is_traced_again(copied, finished, loaded, prompts, options, contents):
    """The advice in the message does not work."""
    (copied / "part-00003.parquet").unlink()
    collect(loaded, prompts, copied, options=options)
    assert contents(copied) == contents(finished)


@pytest.mark.parametrize("number", [0, 2])
def test_parts_with_other_signals_are_refused(copied, number):
    """A run resumed with another set of plug-ins: a signal dropped from all rows, or a traceback about a key."""
    part = copied / f"part-{number:05d}.parquet"
    pq.write_table(pq.read_table(part).drop_columns(["entropy"]), part)
    with pytest.raises(CorruptTraceError, match=r"part-00000\.parquet do not hold the same signals \(entropy\)"):
        read_trace(copied)


def test_unfinished_trace_is_refused(copied):
    """The first samples of a long run taken for the whole workload."""
    (copied / "part-00001.parquet").unlink()
    (copied / "part-00004.parquet").unlink()
    with pytest.raises(TraceError, match="is not finished: 2 of 5 samples are missing; run the same trace again"):
        read_trace(copied)
    with pytest.raises(TraceError, match="is not finished"):
        read_trace(copied, skip_corrupt=True)


def test_every_part_corrupt(copied):
    """An empty trace taken for a result."""
    for part in copied.glob("part-*"):
        part.write_bytes(b"")
    with pytest.raises(TraceError, match="has no traced sample: all 5 failed, first: part-00000"):
        read_trace(copied, skip_corrupt=True)


@pytest.mark.parametrize(
    "content", ["not JSON\n", '{"id": "s0"}\n', '{"id": "a", "category": "b", "turns": 3}\n', None]
)
def test_broken_samples(copied, content):
    """Prompts lost in silence, or a traceback."""
    file = copied / "samples.jsonl"
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(CorruptTraceError, match=r"samples\.jsonl cannot be read"):
        read_trace(copied)


@pytest.mark.parametrize("content", ["", "{}", '{"sample_id": "s3"'])
def test_broken_failure(copied, content):
    """A traceback about a file that only says why a sample is missing."""
    (copied / "part-00003.parquet").unlink()
    (copied / "failed-00003.json").write_text(content)
    with pytest.raises(CorruptTraceError, match=r"failed-00003\.json cannot be read"):
        read_trace(copied)


@pytest.mark.parametrize(
    "content",
    [
        *("[[[3", "[]", "{}", "null", "[[[3]]]", "[[[3]], [[3]], [[3]]]", "[[3], [3]]", "[[[]], [[3]]]"),
        *('[[["3"]], [[3]]]', "[[[3.5]], [[3]]]", "[[[true]], [[3]]]", "[[[3], [3]], [[3]]]", "[{}, [[3]]]"),
    ],
)
def test_broken_answers(copied, loaded, prompts, options, content):
    """A traceback, or the answers of another batch, where stored answers cannot be read."""
    (copied / "part-00003.parquet").unlink()
    (copied / "answers-00001.json").write_text(content)
    with pytest.raises(CorruptTraceError, match=r"answers-00001\.json cannot be read"):
        collect(loaded, prompts, copied, options=options)


def test_broken_token_strings(copied):
    """A trace that cannot be scored because the text of its tokens is damaged: it must at least say so."""
    (copied / "tokens.parquet").write_bytes(b"")
    with pytest.raises(CorruptTraceError, match=r"tokens\.parquet cannot be read.*delete it and run the trace again"):
        read_trace(copied)
    trace = read_trace(copied, skip_corrupt=True)
    assert (trace.token_strings, trace.failures) == ({}, ())
    (copied / "tokens.parquet").unlink()
    assert read_trace(copied).token_strings == {}


def test_text_beyond_ascii_comes_back(tmp_path, loaded, prompts, options):
    """Line separators and emoji in a prompt that split or garble the list of samples."""
    odd = 'a\u2028b\u0085c\x1e d\u00e9 \U0001f41d "quoted" \\ end\r\nnext'
    workload = replace(prompts, samples=(replace(prompts.samples[0], turns=(odd,)),))
    collect(loaded, workload, tmp_path / "trace", options=options)
    assert read_trace(tmp_path / "trace").samples[0].turns == (odd,)
