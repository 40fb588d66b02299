"""Traces that stop at a look: which samples they hold, how they resume, and what they say of themselves."""

import json
import random
from unittest.mock import patch

import pytest

from exitbench.config import TraceOptions
from exitbench.errors import CorruptTraceError, TraceError
from exitbench.trace.collect import collect
from exitbench.trace.precision import Look, Precision
from exitbench.trace.record import Recorder
from exitbench.trace.store import read_trace
from exitbench.workloads import Sample, Workload

OPTIONS = TraceOptions(max_new_tokens=3, generation_batch=4)


class StopAt:
    """Looks after 3 samples, after 6 and after all; the given one is enough."""

    def __init__(self, number):
        self.number, self.looks, self.ends = number, [], []

    def plan(self, num_samples):
        self.ends = [3, 6, num_samples]
        return self.ends

    def look(self, trace):
        assert trace.precision is None
        self.looks.append(Look(n_samples=len(trace.samples), n_prompts=len(trace.samples), level=0.97, half_width=0.1))
        reached = len(self.looks) == self.number
        looks = tuple(self.looks)
        return Precision(target=0.1, reached=reached, n_available=self.ends[-1], n_looks=3, looks=looks)


@pytest.fixture(scope="module")
def many():
    """10 prompts in 2 categories, one after the other."""
    samples = tuple(Sample(id=f"s{i}", category="ab"[i // 5], turns=(f"Question {i}?",)) for i in range(10))
    return Workload(name="ten", version="1", licence=None, kind="prompts", samples=samples)


def test_stops_at_a_look(loaded, many, tmp_path):
    """Samples beyond the look traced or counted, or a trace taken for unfinished because there could be more."""
    stopping = StopAt(2)
    collect(loaded, many, tmp_path / "t", options=OPTIONS, stopping=stopping)
    trace = read_trace(tmp_path / "t")
    assert [look.n_samples for look in stopping.looks] == [3, 6]
    assert len(trace.samples) == trace.precision.looks[-1].n_samples == 6
    assert trace.manifest.settings.order == "looks"
    assert trace.manifest.workload.num_samples == 10
    assert set(trace.sample_index.tolist()) == set(range(6))
    assert len(list((tmp_path / "t").glob("part-*.parquet"))) == 6
    assert sorted(sample.category for sample in trace.samples) == ["a"] * 3 + ["b"] * 3
    assert trace.token_strings.keys() >= set(trace.target_id.tolist())


def test_all_prompts_may_be_needed(loaded, many, tmp_path):
    """A run that forgets to say that it ran out of prompts, or that leaves the last ones."""
    collect(loaded, many, tmp_path / "t", options=OPTIONS, stopping=StopAt(None))
    trace = read_trace(tmp_path / "t")
    assert len(trace.samples) == 10
    assert (trace.precision.reached, len(trace.precision.looks)) == (False, 3)


def test_limit_is_the_most_it_may_use(loaded, many, text, tmp_path):
    """A limit that is ignored, or prompts other than those an ordinary run with this limit uses; on text as well."""
    limited = TraceOptions(max_new_tokens=3, limit=8)
    collect(loaded, many, tmp_path / "a", options=limited, stopping=StopAt(None))
    assert {s.id for s in read_trace(tmp_path / "a").samples} == {s.id for s in many.limited(8).samples}
    documents = TraceOptions(document_tokens=20, limit=9)
    collect(loaded, text, tmp_path / "ordinary", options=documents)
    collect(loaded, text, tmp_path / "b", options=documents, stopping=StopAt(None))
    ordinary, drawn = read_trace(tmp_path / "ordinary"), read_trace(tmp_path / "b")
    assert {s.id for s in drawn.samples} == {s.id for s in ordinary.samples}
    assert [s.id for s in drawn.samples] != [s.id for s in ordinary.samples]
    tokens = {sample.id: (drawn.sample_index == i).sum() for i, sample in enumerate(drawn.samples)}
    assert tokens == {sample.id: (ordinary.sample_index == i).sum() for i, sample in enumerate(ordinary.samples)}


def test_killed_anywhere_it_resumes_to_the_same_files(loaded, many, tmp_path, contents):
    """A look that is skipped, taken twice or taken on other samples after a run was cut."""
    collect(loaded, many, tmp_path / "whole", options=OPTIONS, stopping=StopAt(2))
    expected = contents(tmp_path / "whole")
    real = Recorder.rows
    rng = random.Random(0)
    for _ in range(12):
        chance = rng.random() * 0.4

        def cut(*arguments, chance=chance):
            if rng.random() < chance:
                raise KeyboardInterrupt
            return real(*arguments)

        with patch.object(Recorder, "rows", cut):
            try:
                collect(loaded, many, tmp_path / "cut", options=OPTIONS, stopping=StopAt(2))
            except KeyboardInterrupt:
                with pytest.raises(TraceError, match=r"not finished: its precision is not reached yet.*it resumes"):
                    read_trace(tmp_path / "cut")
    collect(loaded, many, tmp_path / "cut", options=OPTIONS, stopping=StopAt(2))
    assert contents(tmp_path / "cut") == expected


def test_a_finer_precision_goes_on_from_there(loaded, many, tmp_path, contents):
    """Samples traced anew for a finer precision, or answers that depend on where the first run stopped."""
    collect(loaded, many, tmp_path / "fine", options=OPTIONS, stopping=StopAt(None))
    collect(loaded, many, tmp_path / "t", options=OPTIONS, stopping=StopAt(1))
    assert len(read_trace(tmp_path / "t").samples) == 3
    with patch.object(Recorder, "rows", autospec=True, side_effect=Recorder.rows) as traced:
        collect(loaded, many, tmp_path / "t", options=OPTIONS, stopping=StopAt(None))
    assert traced.call_count == 7
    assert contents(tmp_path / "t") == contents(tmp_path / "fine")
    collect(loaded, many, tmp_path / "t", options=OPTIONS, stopping=StopAt(1))
    assert len(read_trace(tmp_path / "t").samples) == 3


def test_ordinary_runs_and_others_do_not_mix(loaded, many, tmp_path):
    """Samples in two orders in one folder: sample 3 of one run taken for sample 3 of the other."""
    collect(loaded, many, tmp_path / "t", options=OPTIONS)
    with pytest.raises(TraceError, match=r"settings.order \(workload there, looks now\)"):
        collect(loaded, many, tmp_path / "t", options=OPTIONS, stopping=StopAt(1))
    assert read_trace(tmp_path / "t").precision is None


@pytest.mark.parametrize("damage", ["{", "{}", "too many"])
def test_damaged_precision_is_named(loaded, many, tmp_path, damage):
    """A traceback, or a trace that is cut at a number that cannot be."""
    collect(loaded, many, tmp_path / "t", options=OPTIONS, stopping=StopAt(1))
    file = tmp_path / "t" / "precision.json"
    if damage == "too many":
        content = json.loads(file.read_text())
        content["looks"][0]["n_samples"] = 11
        damage = json.dumps(content)
    file.write_text(damage)
    with pytest.raises(CorruptTraceError, match=r"precision.json cannot be read"):
        read_trace(tmp_path / "t")
