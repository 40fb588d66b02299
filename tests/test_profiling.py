"""Timing a model's parts, mostly on clocks whose readings are known."""

import itertools
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch

from exitbench import api, profiling
from exitbench.errors import CostError
from exitbench.models.load import load
from exitbench.models.toy import save_toy
from exitbench.profiling import ProfileOptions, measure_profile
from exitbench.replay.cost import ProbeCost
from exitbench.replay.profiles import load_profile
from exitbench.replay.times import exit_times

QUICK = ProfileOptions(context=9, batches=(1, 3), repeats=2)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return load(str(save_toy(tmp_path_factory.mktemp("models") / "toy")))


def counted(loaded, **options):
    """A profile by a clock that moves on by a second at each reading."""
    with patch.object(profiling.time, "perf_counter", side_effect=map(float, itertools.count())):
        return measure_profile(loaded, options=ProfileOptions(**({"context": 9, "batches": (1, 3)} | options)))


def test_what_lies_between_two_readings(toy):
    """Blocks timed with what runs between them, or a readout with the last block in it."""
    profile = counted(toy, repeats=2)
    assert [block.rows for block in profile.blocks] == [(1, 3)] * 4
    for part in (*profile.blocks, profile.steps, profile.readout, profile.translator):
        assert part.median_s == part.q10_s == part.q90_s == (1.0, 1.0)
    assert [part.median_s for part in profile.completion] == [(1.0,)] * 4
    assert profile.accounted == (5.0, 5.0)


def test_tokens_and_context(toy):
    """A cache that grows from round to round, warm-up that is kept, or a chunk of the wrong length."""
    seen = []
    attention = toy.model.model.layers[0].self_attn

    def note(_, args, kwargs):
        seen.append((kwargs["hidden_states"].shape[1], kwargs["past_key_values"].get_seq_length(0)))

    hook = attention.register_forward_pre_hook(note, with_kwargs=True)
    try:
        profile = counted(toy, repeats=2)
    finally:
        hook.remove()
    assert seen[0] == (8, 0)  # the prompt
    assert seen[1:] == [(1, 8), (1, 8), (3, 8), (3, 8)] * (2 + 2)
    assert (profile.context, profile.num_repeats) == (9, 2)


def test_quantiles_are_of_the_rounds_kept(toy):
    """A mean in the median's place, or the slow first rounds among those kept."""
    # 22 readings a round: at both ends of 4 blocks, two steps, a translator and 4 completions, and of a readout one.
    readings, now = [], 0.0
    for number in range(7 * 22):
        readings.append(now)
        now += 2.0 ** (number // 22)
    with patch.object(profiling.time, "perf_counter", side_effect=readings):
        profile = measure_profile(toy, options=ProfileOptions(context=9, batches=(1,), repeats=5))
    for part in (*profile.blocks, profile.readout, profile.steps, profile.translator, *profile.completion):
        assert part.median_s == (16.0,)  # of 4, 8, 16, 32, 64
        assert (part.q10_s, part.q90_s) == (pytest.approx((5.6,)), pytest.approx((51.2,)))


def test_a_profile_projects_its_own_model(toy, tmp_path):
    """A profile that the projection cannot use, or that is not the one in the file."""
    profile = api.profile(toy, out=tmp_path / "profile.json", options=QUICK)
    assert load_profile(str(tmp_path / "profile.json")) == profile
    assert profile.weights_sha256 == toy.source.weights_sha256
    assert (profile.dtype, profile.attention) == ("float32", "sdpa")
    assert profile.environment["num_threads"] == torch.get_num_threads()
    known = {"dtype": "float32", "state": "copy", "context": 9, "probe": ProbeCost(), "probes": [2]}
    costs = exit_times(toy.shape, profile, **known)
    assert costs.shape == (5,)
    assert costs[4] > 1


def test_no_completion_where_it_is_not_known(toy):
    """Times of products of size zero, where the size is not known."""
    lost = tuple(block.model_copy(update={"completion_weight_bytes": None}) for block in toy.shape.blocks)
    unknown = toy.shape.model_copy(update={"blocks": lost})
    profile = measure_profile(replace(toy, shape=unknown), options=QUICK)
    assert profile.completion is None
    assert profile.blocks


def test_a_model_without_a_cache(tmp_path):
    """A whole pass over the context timed as one decoded token."""
    model = load(str(save_toy(tmp_path / "gpt1", "openai-gpt")))
    with pytest.raises(CostError, match="gpt1 returns no state to decode a token from"):
        measure_profile(model, options=QUICK)


def test_a_context_without_positions(toy):
    """An index error deep in a model."""
    with pytest.raises(CostError, match=r"--context 2047 with chunks of 4 needs 2050 positions, toy knows 2048"):
        measure_profile(toy, options=ProfileOptions(context=2047, batches=(1, 4)))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"context": 1}, "--context is 1, expected at least 2"),
        ({"repeats": 0}, "--repeats is 0, expected at least 1"),
        ({"batches": ()}, "--batches is '', expected rising numbers from 1"),
        ({"batches": (2, 4)}, "--batches is '2,4'"),
        ({"batches": (1, 4, 4)}, "--batches is '1,4,4'"),
    ],
)
def test_options_that_cannot_be(options, said):
    """Nothing timed, or times that no projection can use."""
    with pytest.raises(CostError, match=said):
        ProfileOptions(**options)
