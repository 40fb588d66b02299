"""A replay as a record: through JSON and back, and what it refuses."""

import json

import numpy as np
import pytest

from exitbench.errors import ReportError
from exitbench.policies.confidence import TopProbability
from exitbench.replay.assemble import ReplayOptions, replay
from exitbench.replay.result import Replay


@pytest.fixture(scope="module")
def made(make_trace, make_noisy):
    top1, prob = make_noisy(np.random.default_rng(0), 12 * 8)
    trace = make_trace(top1, prob=prob, prompts=np.repeat(np.arange(12), 8), completed=False)
    return replay(trace, [TopProbability()], options=ReplayOptions(draws=50), command="exitbench replay t")


def test_json_round_trip(made):
    """A field lost, renamed or widened on the way through a file; NaN in the JSON."""
    text = json.dumps(made.to_json(), allow_nan=False)
    assert Replay.from_json(json.loads(text)) == made


def test_every_null_has_its_reason_beside_it(made):
    """An empty cell without a word."""
    for row in (made.to_json(), *made.to_json()["points"]):
        nulls = {name for name, value in row.items() if value is None}
        assert {f"{name}_reason" for name in nulls} == {name for name in row if name.endswith("_reason")}
    points = {p["procedure"]: p for p in made.to_json()["points"] if p["policy"] == "top1-prob"}
    assert "traced before that was counted" in points["bootstrap"]["net_flops_copy_reason"]
    assert points["bootstrap"]["net_bytes_deferred"] is not None
    assert "needs at least" in points["fixed-sequence"]["saved_blocks_reason"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 99}, "schema version 1"),
        ({"points": [{"policy": 1}]}, "not a replay: points.0"),
        ({"speculation": None}, "not a replay"),
        ({"pionts": []}, "pionts"),
    ],
)
def test_something_else_is_refused_in_one_line(made, change, words):
    """A traceback for a file that is no replay, or one of a later version read with today's meaning."""
    with pytest.raises(ReportError, match=words) as caught:
        Replay.from_json(made.to_json() | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [None, [], "replay", {}])
def test_no_object_is_refused(data):
    """A crash on a file that holds something else."""
    with pytest.raises(ReportError, match="exitbench replay"):
        Replay.from_json(data)
