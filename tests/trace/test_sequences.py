"""The sequences behind a finished trace: the same tokens, and nothing generated again."""

from dataclasses import replace

import numpy as np
import pytest

from exitbench.config import TraceOptions
from exitbench.errors import TraceError
from exitbench.trace import sequences as sequences_module
from exitbench.trace.collect import collect
from exitbench.trace.sequences import stretches_of
from exitbench.trace.store import read_trace

TEXT = TraceOptions(document_tokens=40, fast=True)


def _rows(stretches):
    """(sample, turn, position, input id, target id) of every counted token."""
    return [
        (s.sample, s.turn, place, s.ids[place], s.ids[place + 1])
        for s in stretches
        for place in range(s.first_row, len(s.ids) - 1)
    ]


def _recorded(trace):
    columns = (trace.sample_index, trace.turn, trace.position, trace.input_id, trace.target_id)
    return [tuple(int(value) for value in row) for row in zip(*columns, strict=True)]


def test_answers_are_those_of_the_trace(loaded, prompts, options, finished, monkeypatch):
    """Answers generated once more, or another prompt before them than the one that was traced."""
    monkeypatch.setattr(sequences_module, "greedy_answers", lambda *_: pytest.fail("generated again"))
    trace = read_trace(finished)
    stretches = list(stretches_of(loaded, prompts, options, finished))
    assert _rows(stretches) == _recorded(trace)
    assert [s.category for s in stretches] == [trace.samples[s.sample].category for s in stretches]


@pytest.mark.parametrize("limit", [None, 3])
def test_documents_are_those_of_the_trace(loaded, text, tmp_path, limit):
    """Documents cut at another place, or others than the limit had chosen."""
    options = replace(TEXT, limit=limit)
    collect(loaded, text, tmp_path / "t", options=options)
    stretches = list(stretches_of(loaded, text, options, tmp_path / "t"))
    assert _rows(stretches) == _recorded(read_trace(tmp_path / "t"))
    assert all(stretch.first_row == 0 for stretch in stretches)


def test_failed_samples_are_left_out(loaded, prompts, options, copied):
    """What failed in the trace, and would fail again, or shift the numbers of the samples after it."""
    (copied / "part-00001.parquet").unlink()
    (copied / "failed-00001.json").write_text('{"sample_id": "s1", "reason": "not finite"}')
    stretches = list(stretches_of(loaded, prompts, options, copied))
    assert sorted({stretch.sample for stretch in stretches}) == [0, 2, 3, 4]
    assert np.array_equal(_rows(stretches), _recorded(read_trace(copied)))


def test_another_trace_is_refused(loaded, prompts, text, options, finished):
    """Hidden states of one set of tokens reported beside the score of another."""
    with pytest.raises(TraceError, match="another max_new_tokens; give the model"):
        stretches_of(loaded, prompts, replace(options, max_new_tokens=7), finished)
    with pytest.raises(TraceError, match=r"another on, .*workload"):
        stretches_of(loaded, text, replace(options, on="text"), finished)


def test_lost_answers_are_named(loaded, prompts, options, copied):
    """New answers in place of those that were traced, which another machine may give differently."""
    (copied / "answers-00001.json").unlink()
    with pytest.raises(TraceError, match="lacks the answers of batch 1"):
        list(stretches_of(loaded, prompts, options, copied))
