"""Projected decoding, against sums by hand and against the costs by exit depth where these are exact."""

import numpy as np
import pytest

from exitbench.errors import CostError
from exitbench.replay.cost import ProbeCost, exit_costs
from exitbench.replay.loop import LoopCounts, LoopRules, Path, simulate
from exitbench.replay.profiles import TimedPart
from exitbench.replay.project import DecoderTimes, TimedGrid, loop_work, project_decode
from replay_shapes import llama

EXITS = np.array([4, 2, 4, 3, 2, 2, 4])
RULES = LoopRules(num_blocks=4, probes=(2, 3), state="copy")


def part(*median_s, rows=(1, 2, 4)):
    return TimedPart(rows=rows[: len(median_s)], median_s=median_s, q10_s=median_s, q90_s=median_s)


def times(**changes):
    grid = TimedGrid(rows=(1, 2), parts=(part(1.0, 3.0), part(2.0, 5.0)))
    nothing = part(0.0, 0.0, 0.0)
    values = {
        "model": "toy",
        "dtype": "float32",
        "device": "cpu",
        "context": 16,
        "num_rounds": 1,
        "blocks": (grid,) * 4,
        "completions": (part(0.25),) * 3,
        "probes": {"readout": part(0.5)},
        "arguments": grid,
        "draft_steps": None,
        "checks": None,
        "rounds": None,
    }
    return DecoderTimes(**values | dict.fromkeys(("moves", "heads", "steps", "choices"), nothing) | changes)


def later(rules=RULES, **fields):
    return simulate(rules, [Path(prompt_length=5, exits=EXITS, **fields)])[1]


@pytest.mark.parametrize("unit", ["flops", "bytes"])
def test_work_of_one_row_is_that_of_its_exits(unit):
    """A failed probe, a readout or a skipped block counted twice, or not at all."""
    counts, probe = later(), ProbeCost()
    work, full = loop_work(counts, llama(), context=20, probe=probe)
    costs = exit_costs(llama(), state="copy", unit=unit, context=20, probe=probe, probes=RULES.probes)
    assert work.in_unit(unit) / full.in_unit(unit) == pytest.approx(costs[EXITS[1:]].mean())


def test_deferred_work_saves_no_flop_of_a_block():
    """Waiting tokens forgotten, or the reading of weights counted for each of them."""
    counts = later(LoopRules(num_blocks=4, probes=(2, 3), reads_out=False))
    work, full = loop_work(counts, llama(flops_per_position=0), context=20, probe=ProbeCost(readout=False))
    assert work.flops == pytest.approx(full.flops)
    assert work.weight_bytes < full.weight_bytes


def test_time_by_hand():
    """Six tokens: blocks of 17 depths, 7 completions, 6 looks at depth 2 and 3 at depth 3."""
    assert project_decode(later(), times(), probe="readout") == pytest.approx((17 + 7 * 0.25 + 9 * 0.5) / 6)


def test_chunks_and_rows_have_their_own_times():
    """The time of one token for a chunk; tokens and rows mixed up."""
    grid = times().blocks[0]
    assert (grid.at(1, 2), grid.at(2, 1), grid.at(2, 2)) == (3.0, 2.0, 5.0)
    wide = TimedGrid(rows=(1, 3), parts=(part(1.0), part(2.0)))
    assert wide.at(2, 1) == 1.5
    with pytest.raises(CostError, match="1 to 2 rows, got 3"):
        grid.at(3, 1)


def test_rounds_are_paid_for():
    """Drafting that costs as much as plain steps, checks for free."""
    rules = LoopRules(num_blocks=4, probes=(2, 3), state="lossless", draft=2)
    counts = later(rules, agrees=np.ones(7, dtype=bool))
    more = {"draft_steps": part(10.0), "checks": part(100.0, 100.0, 100.0), "rounds": part(0.0, 0.0, 0.0)}
    wide = TimedGrid(rows=(1,), parts=(part(1.0, 1.0, 1.0),))
    both = [times(blocks=(wide,) * 4, arguments=wide, **change) for change in (more, more | {"checks": part(0, 0, 0)})]
    dear, free = (project_decode(counts, each, probe="readout") for each in both)
    assert dear - free == pytest.approx(100 * counts.rounds.total() / counts.tokens)
    with pytest.raises(CostError, match="no times of 'drafting'"):
        project_decode(counts, times(blocks=(wide,) * 4, arguments=wide), probe="readout")


def test_refusals():
    """A time a token of nothing; probes for free because nobody timed them."""
    with pytest.raises(CostError, match="no token is decoded"):
        project_decode(LoopCounts(), times(), probe="readout")
    with pytest.raises(CostError, match="no times of 'hidden'"):
        project_decode(later(), times(), probe="hidden")
