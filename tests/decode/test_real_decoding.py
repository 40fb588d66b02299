"""Real decoding on real pretrained weights. Slow: the weights are fetched on first use."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from exitbench import api
from exitbench.decode.decoder import ExitDecoder
from exitbench.decode.generation import Greedy
from exitbench.policies.static import FixedDepth
from exitbench.trace.prompts import conversation_ids, has_chat_template
from exitbench.workloads import load_workload

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MODELS = ["smollm2-135m-instruct", "gemma3-270m"]


def last_line(script, *arguments):
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", MODELS)
def test_loop_that_never_exits_is_greedy_generation(name):
    """A mask, a position or a padding that real lengths and windows bring out; an end token that is passed by."""
    loaded = api.load(name)
    chat = has_chat_template(loaded.tokenizer)
    samples = load_workload("mini").limited(6).samples
    prompts = [conversation_ids(loaded.tokenizer, sample.turns[:1], [], chat=chat) for sample in samples]
    never, greedy = ExitDecoder(loaded, FixedDepth()), Greedy(loaded)
    for part in ([prompts[0]], prompts[1:2], prompts[2:]):
        want, got = (engine.decode(part, max_new_tokens=24).answers for engine in (greedy, never))
        assert [answer.ids for answer in got] == [answer.ids for answer in want]


@pytest.mark.parametrize("name", MODELS)
def test_tokens_leave_where_replay_says(name):
    """States that are nearly right; probes at another depth than the trace's."""
    result = last_line("decode_exits.py", "--model", name, "--limit", "10", "--max-new-tokens", "12")
    assert result["n_tokens"] > 60
    for row in result["policies"]:
        assert row["farther_than_rounding"] == 0, row
        assert row["leave_elsewhere"] <= 0.05 * row["n_tokens"], row
        assert 1 < row["mean_depth"] < 30


def test_lossless_answers_are_greedy_ones():
    """Drafts that are kept although the full model says otherwise; states that are not put back."""
    result = last_line("decode_lossless.py", "--limit", "8", "--max-new-tokens", "16", "--depth", "25")
    assert result["of_these_ties"] == len(result["partings"])
    assert 0 < result["accepted"] < result["drafts"]
