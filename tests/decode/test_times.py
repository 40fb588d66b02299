"""The timer of the loop's parts, on toys; what they take is nobody's test."""

from types import SimpleNamespace

import pytest
import torch

import exitbench.decode.times as times_module
from exitbench.decode.abilities import Abilities
from exitbench.decode.decoder import ExitDecoder
from exitbench.decode.run import Run
from exitbench.decode.stack import Stack
from exitbench.decode.times import LoopTimer, probe_kind
from exitbench.errors import CostError
from exitbench.models.load import load
from exitbench.models.toy import save_toy
from exitbench.policies import POLICIES
from exitbench.policies.static import FixedDepth


@pytest.fixture(scope="module", params=["llama", "gemma3_text", "mamba"])
def loaded(request, tmp_path_factory):
    return load(str(save_toy(tmp_path_factory.mktemp("toy"), request.param, num_blocks=3)))


@pytest.fixture
def timer(loaded):
    return LoopTimer(loaded, context=40, rows=(1, 2), tokens=(1, 2, 4))


def test_every_part_has_every_size(timer):
    """Sizes for which a projection would be refused; parts that were never reached."""
    timer.round()
    times = timer.times()
    assert all(grid.rows == (1, 2) for grid in times.blocks)
    assert all(part.rows == (1,) for part in times.blocks[0].parts)
    assert all({1, 2, 4} <= set(part.rows) for grid in times.blocks[1:] for part in grid.parts)
    assert all({1, 2, 4} <= set(part.rows) for part in times.arguments.parts)
    assert [part.rows for part in times.completions] == [(1, 2)] * 2
    assert set(times.probes) == {"readout", "hidden", "static"}
    for part in (*times.probes.values(), times.heads, times.steps, times.choices, times.moves):
        assert set(part.rows) == {1, 2}
    assert times.rounds.rows == times.checks.rows == (1, 2, 4)


def test_time_is_charged_once_and_where_it_goes(loaded, monkeypatch):
    """A step charged with its blocks, a block with the pass for its arguments; work alone moves the clock."""
    abilities = ExitDecoder(loaded, FixedDepth()).abilities
    now = [0.0]
    monkeypatch.setattr(times_module, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def passing(seconds, work):
        def takes(*args, **kwargs):
            now[0] += seconds
            return work(*args, **kwargs)

        return takes

    monkeypatch.setattr(Stack, "block", passing(1, Stack.block))
    monkeypatch.setattr(Abilities, "write_state", passing(10, Abilities.write_state))
    monkeypatch.setattr(Stack, "calls", passing(100, Stack.calls))
    monkeypatch.setattr(Run, "take", passing(1000, Run.take))
    timer = LoopTimer(loaded, context=40, rows=(1,), tokens=(1, 2), abilities=abilities)
    timer.round()
    times = timer.times()
    assert {grid.at(1, 1) for grid in times.blocks} == {1}
    assert {part.at(1) for part in times.completions} == {11}
    assert {times.arguments.at(1, tokens) for tokens in (1, 2)} == {100}
    assert times.choices.at(1) == 1000
    for part in (times.steps, times.draft_steps, times.heads, times.checks, times.rounds, *times.probes.values()):
        assert part.at(1) == 0


def test_warm_up_is_forgotten(timer):
    timer.round()
    timer.forget()
    assert not timer._means
    timer.round()
    assert timer.times().num_rounds == 1


def test_model_is_left_as_it_was(loaded, timer):
    """A head that goes on being timed, blocks that are still taken out."""
    ids = torch.arange(3, 15)[None]
    before = loaded.model(input_ids=ids).logits
    timer.round()
    assert torch.equal(loaded.model(input_ids=ids).logits, before)
    assert not any("forward" in vars(module) for module in loaded.model.modules())


def test_kinds_of_probes():
    kinds = {
        name: probe_kind(POLICIES.get(name)()) for name in ("top1-prob", "entropy", "hidden-cosine", "fixed-depth")
    }
    assert kinds == {"top1-prob": "readout", "entropy": "readout", "hidden-cosine": "hidden", "fixed-depth": "static"}
    with pytest.raises(CostError, match="reads out two depths"):
        probe_kind(POLICIES.get("kl-prev")())


def test_refusals(loaded):
    with pytest.raises(CostError, match=r"tokens are \(2, 4\), expected rising numbers from 1"):
        LoopTimer(loaded, context=40, tokens=(2, 4))
