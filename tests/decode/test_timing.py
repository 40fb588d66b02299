"""The timing protocol, on clocks whose readings are known."""

import gc
from functools import partial

import pytest
import torch

from exitbench.decode import timing
from exitbench.decode.engine import Answer, Decoded
from exitbench.decode.timing import Spread, Timing, full_work, measure_ceilings, time_in_turns
from exitbench.models.load import load
from exitbench.models.toy import save_toy

CPU = torch.device("cpu")


class Clock:
    """Stands still unless a job moves it."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", clock)
    monkeypatch.setattr(timing, "_peak_bytes", lambda job, device: None)
    return clock


def decoded(lengths=(4,), prefill_s=None, total_s=1.0):
    answers = tuple(Answer(ids=tuple(range(length))) for length in lengths)
    return Decoded(answers=answers, prefill_s=prefill_s, total_s=total_s, counts={})


def job(clock, seconds, result=None, seen=None):
    """Takes the next of `seconds` at each call; the last one from then on."""
    left = list(seconds)

    def run():
        clock.now += left.pop(0) if len(left) > 1 else left[0]
        if seen is not None:
            seen.append(gc.isenabled())
        return result or decoded()

    return run


def test_warm_ups_are_not_kept(clock):
    """The slow first rounds among those quoted, or a mean in the median's place."""
    jobs = {"a": job(clock, [100, 1, 2, 30])}
    found, _ = time_in_turns(jobs, baseline="a", device=CPU, warm_ups=1, repeats=3)["a"]
    assert found.total_s == Spread.of([1, 2, 30])
    assert (found.total_s.median, found.total_s.n) == (2, 3)


def test_every_job_is_first_in_turn(clock):
    """One job that always runs on the caches of the same other one."""
    order = []

    def named(name):
        clock.now += 1
        order.append(name)
        return decoded()

    jobs = {name: partial(named, name) for name in "abc"}
    time_in_turns(jobs, baseline="a", device=CPU, warm_ups=0, repeats=3)
    assert "".join(order) == "abcbcacab"


def test_ratios_are_of_the_same_round(clock):
    """A drift of the machine between rounds that looks like a spread of the ratio."""
    jobs = {"base": job(clock, [1, 1, 2, 4, 8]), "slow": job(clock, [1, 3, 6, 12, 24])}
    found = time_in_turns(jobs, baseline="base", device=CPU, warm_ups=1, repeats=4)
    assert found["slow"][0].ratio == Spread(median=3, q10=3, q90=3, n=4)
    assert found["base"][0].ratio.median == 1


def test_ratios_are_by_token(clock):
    """An engine that looks fast since its answers end early."""
    jobs = {"base": job(clock, [8], decoded((8,))), "short": job(clock, [4], decoded((2,)))}
    found, last = time_in_turns(jobs, baseline="base", device=CPU, repeats=2)["short"]
    assert found.ratio.median == 2
    assert found.num_tokens == last.num_tokens == 2


def test_prefill_and_decoding_apart(clock):
    """Time of the prompts spread over the tokens, or the first tokens, which it brought, counted as decoded."""
    jobs = {"a": job(clock, [5], decoded((4, 3), prefill_s=2.0, total_s=5.0))}
    found, _ = time_in_turns(jobs, baseline="a", device=CPU, repeats=3)["a"]
    assert found.prefill_s == Spread(median=2, q10=2, q90=2, n=3)
    assert found.decode_ms_per_token.median == pytest.approx(1000 * 3 / 5)


@pytest.mark.parametrize("result", [decoded((4, 3)), decoded((1, 1), prefill_s=1.0)], ids=["unsaid", "no more tokens"])
def test_decoding_alone_is_null_where_it_is_not_known(clock, result):
    """A zero, or a division by it, for a time that nobody measured."""
    found, _ = time_in_turns({"a": job(clock, [5], result)}, baseline="a", device=CPU, repeats=1)["a"]
    assert found.decode_ms_per_token is None
    assert (found.prefill_s is None) == (result.prefill_s is None)


def test_the_garbage_collector_waits(clock):
    """A pause of the collector within a timed run; one left off afterwards."""
    seen = []
    time_in_turns({"a": job(clock, [1], seen=seen)}, baseline="a", device=CPU, repeats=2)
    assert seen == [False] * 3
    assert gc.isenabled()


def test_a_timing_is_plain_json(clock):
    """A result that cannot be written, or reads back as another."""
    found, _ = time_in_turns({"a": job(clock, [1])}, baseline="a", device=CPU, repeats=1)["a"]
    assert Timing.model_validate_json(found.model_dump_json()) == found
    assert found.peak_bytes is None


def test_peak_memory_is_that_of_the_job():
    """What was held before counted in, or memory that is gone again by the end of the job left out."""
    held = torch.ones(30 * 2**20 // 4)

    def run():
        torch.ones(40 * 2**20 // 4)
        return decoded()

    peak = timing._peak_bytes(run, CPU)
    if peak is None:
        pytest.skip("the kernel does not say")
    assert 38 * 2**20 < peak < 60 * 2**20, held.shape


def test_memory_freed_before_does_not_hide_the_peak():
    """Pieces that lie free in the heap from a warm-up, so that the same job seems to need none."""

    def run():
        pieces = [torch.ones(64 * 2**10 // 4) for _ in range(640)]
        return decoded((len(pieces),))

    run()
    spike = [torch.ones(64 * 2**10 // 4) for _ in range(640)]
    barrier = torch.ones(16)  # keeps the heap's end where it is
    del spike
    peak = timing._peak_bytes(run, CPU)
    if peak is None:
        pytest.skip("the kernel does not say")
    assert peak > 30 * 2**20, barrier.shape


def test_ceilings_count_what_was_done(monkeypatch):
    """Bytes that were only read, a multiplication without its additions, or a mean in the place of the fastest."""
    monkeypatch.setattr(timing, "_COPY_BYTES", 4096)
    monkeypatch.setattr(timing, "_MATMUL_SIZE", {"cpu": 8})
    readings = iter([now for number in range(14) for now in (100 * number, 100 * number + (2 if number > 3 else 50))])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(readings))
    ceilings = measure_ceilings(CPU, torch.float32)
    assert ceilings.copy_bytes_per_s == 2 * 4096 / 2
    assert ceilings.matmul_flops_per_s == 2 * 8**3 / 2


def test_work_of_a_full_step(tmp_path):
    """A step without its readout, with weights read once a row, or with one row's state."""
    shape = load(str(save_toy(tmp_path)), dtype="float32").shape
    one_bytes, one_flops = full_work(shape, batch=1, context=10)
    two_bytes, two_flops = full_work(shape, batch=2, context=10)
    weights = sum(block.weight_bytes for block in shape.blocks) + shape.head_bytes
    state = sum(block.state_bytes_per_position * 11 for block in shape.blocks)
    assert (one_bytes, two_bytes) == (weights + state, weights + 2 * state)
    assert one_flops == sum(block.decode_flops(10) for block in shape.blocks) + 2 * shape.head_weights
    assert two_flops == 2 * one_flops
