"""What is done when memory runs out."""

import numpy as np
import pytest
import torch

from exitbench.config import TraceOptions
from exitbench.errors import ExitbenchError, OutOfMemoryError
from exitbench.trace import record as record_module
from exitbench.trace.budget import Budget, in_halves
from exitbench.trace.collect import collect
from exitbench.trace.record import Recorder, Stretch
from exitbench.trace.store import read_trace

RUNS_OUT = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    MemoryError("Unable to allocate 8.00 GiB for an array"),
)


@pytest.mark.parametrize("error", RUNS_OUT, ids=lambda error: type(error).__name__)
def test_half_is_asked_for_until_it_is_there(error):
    """A run that ends at its largest document, or that tries the same again for ever."""
    said, asked = [], []

    def job(memory):
        asked.append(memory)
        if memory > 2**23:
            raise error
        return memory

    budget = Budget(2**25, "logits", said.append)
    assert budget.spend(job, wanted=2**30, least=2**10) == 2**23
    assert asked == [2**25, 2**24, 2**23]
    assert said == ["out of memory: going on with 16 MiB for logits", "out of memory: going on with 8 MiB for logits"]
    assert budget.spend(job, wanted=2**30, least=2**10) == 2**23, "what was there is remembered"
    assert budget.spend(job, wanted=2**22, least=2**10) == 2**22, "no more than can be used"
    assert len(asked) == 5


def test_what_no_halving_helps_is_not_held_against_the_next():
    """An endless loop, a traceback, or one sample too long for memory that slows down all that follow."""
    budget, asked = Budget(2**22, "hidden states", lambda _: None), []

    def too_much(memory):
        asked.append(memory)
        raise RUNS_OUT[1]

    with pytest.raises(OutOfMemoryError, match=r"hardly anything asked for.*shorter prompts"):
        budget.spend(too_much, wanted=2**21, least=2**19)
    assert asked == [2**21, 2**20, 2**19]
    assert budget.spend(lambda memory: memory, wanted=2**30, least=1) == 2**22


def test_other_errors_pass():
    """A bug taken for a lack of memory and tried again at half the size."""
    with pytest.raises(RuntimeError, match="size mismatch"):
        Budget(2**30, "logits", lambda _: None).spend(
            lambda _: (_ for _ in ()).throw(RuntimeError("size mismatch")), wanted=2**30, least=1
        )


def test_batches_are_halved():
    """Prompts lost, doubled or out of order where a batch does not fit."""
    said, sizes = [], []

    def job(items):
        sizes.append(len(items))
        if len(items) > 3:
            raise RUNS_OUT[0]
        return [item * 10 for item in items]

    assert in_halves(job, list(range(11)), said.append) == [item * 10 for item in range(11)]
    assert sizes[:2] == [11, 5]
    assert said[0] == "out of memory: going on with batches of 5 in place of 11"
    with pytest.raises(OutOfMemoryError):
        in_halves(lambda _: (_ for _ in ()).throw(RUNS_OUT[0]), [1], said.append)


@pytest.mark.parametrize("fast", [False, True], ids=["full", "fast"])
@pytest.mark.parametrize("rows", [1, 3, 16, 1000])
def test_cut_up_hidden_states_give_the_same_rows(loaded, fast, rows):
    """A row lost, doubled or seen without its context at the border of a part."""
    stretch = Stretch(ids=list(range(3, 53)), first_row=7, turn=2, sample=0, category="chat")
    of_row = 2 * (loaded.shape.num_blocks + 1) * loaded.adapter.hidden_size * 4
    asked = []
    real = loaded.adapter.capture

    def capture(ids, part):
        asked.append(part)
        return real(ids, part)

    whole = Recorder(loaded, fast=fast, memory=2**30, say=print).rows([stretch])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loaded.adapter, "capture", capture)
        parts = Recorder(loaded, fast=fast, memory=2 * rows * of_row, say=print).rows([stretch])
    assert max(part.stop - part.start for part in asked) == min(rows, 42)
    for name in ("turn", "position", "input_id", "target_id", "final_id", "decision_depth"):
        assert np.array_equal(getattr(parts, name), getattr(whole, name)), name
    for name, values in whole.signals.items():
        assert np.array_equal(parts.signals[name], values, equal_nan=True), name


def test_a_run_goes_on_with_less(loaded, prompts, finished, contents, tmp_path, monkeypatch):
    """A trace that differs, or fails, because memory was short for a while."""
    calls = []
    real = record_module.compute_signals

    def short_at_first(*arguments, **named):
        calls.append(named["memory"])
        if len(calls) < 3:
            raise RUNS_OUT[0]
        return real(*arguments, **named)

    monkeypatch.setattr(record_module, "compute_signals", short_at_first)
    collect(loaded, prompts, tmp_path / "trace", options=TraceOptions(max_new_tokens=6, generation_batch=2))
    assert calls[0] == 2 * calls[1] == 4 * calls[2]
    assert set(calls[2:]) == {calls[2]}
    traced, expected = read_trace(tmp_path / "trace"), read_trace(finished)
    assert np.array_equal(traced.signals["top1_id"], expected.signals["top1_id"])
    assert traced.failures == ()


@pytest.mark.parametrize("size", ["2", "0MiB", "0.5MiB", "lots", ""])
def test_a_size_that_is_none(size):
    """A budget of nothing, found out hours later."""
    with pytest.raises(ExitbenchError, match=r"--memory is .*, expected at least 1MiB, for example 512MiB"):
        TraceOptions(memory=size)
