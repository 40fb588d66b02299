"""transformers' own decoding as engines."""

import pytest
import torch

from exitbench.decode.generation import Greedy, SelfSpeculation
from exitbench.errors import DecodeError
from exitbench.models.load import load
from exitbench.models.toy import save_toy
from exitbench.trace.generate import greedy_answers

PROMPTS = [[10, 20, 30, 40], [5, 6], [99, 100, 101]]
NUM_NEW = 12


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return load(str(save_toy(tmp_path_factory.mktemp("models") / "toy")), dtype="float32")


def ids(decoded):
    return [list(answer.ids) for answer in decoded.answers]


def test_greedy_is_the_model_s_own(toy):
    """Padding on the wrong side, or seen by the model."""
    found = Greedy(toy).decode(PROMPTS, max_new_tokens=NUM_NEW)
    assert ids(found) == greedy_answers(toy.model, PROMPTS, NUM_NEW)
    assert ids(found) == [ids(Greedy(toy).decode([prompt], max_new_tokens=NUM_NEW))[0] for prompt in PROMPTS]


def test_answers_end_with_their_end_token(toy, monkeypatch):
    """Padding behind an end counted as tokens; an answer cut off where it was to go on."""
    long = ids(Greedy(toy, past_ends=True).decode(PROMPTS, max_new_tokens=NUM_NEW))
    assert [len(answer) for answer in long] == [NUM_NEW] * 3
    end = long[0][3]
    monkeypatch.setattr(toy.model.generation_config, "eos_token_id", [end])
    short = ids(Greedy(toy).decode(PROMPTS, max_new_tokens=NUM_NEW))
    assert short[0] == long[0][: long[0].index(end) + 1]
    assert ids(Greedy(toy, past_ends=True).decode(PROMPTS, max_new_tokens=NUM_NEW)) == long


def test_prefill_is_part_of_the_whole(toy):
    """The time of the last token, or of the prompt's arrival, in the first token's place."""
    found = Greedy(toy, past_ends=True).decode(PROMPTS[:1], max_new_tokens=NUM_NEW)
    assert 0 < found.prefill_s < 0.7 * found.total_s
    assert Greedy(toy).decode(PROMPTS, max_new_tokens=2).prefill_s is None


def calls_of_ends(loaded, run):
    """How often the first and the last block ran."""
    calls = [0, 0]

    def counter(place):
        def count(*_):
            calls[place] += 1

        return count

    hooks = [
        loaded.model.get_submodule(loaded.adapter.paths.blocks[place]).register_forward_hook(counter(place))
        for place in (0, -1)
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return calls


@pytest.mark.parametrize("depth", [1, 3])
def test_speculation_changes_nothing(toy, depth):
    """Drafts that are kept unchecked; drafts by the whole model; a model that stays shortened."""
    engine = SelfSpeculation(toy, depth=depth, past_ends=True)
    found = []
    first, last = calls_of_ends(toy, lambda: found.append(engine.decode(PROMPTS, max_new_tokens=NUM_NEW)))
    assert first > last
    assert ids(found[0]) == ids(Greedy(toy, past_ends=True).decode(PROMPTS, max_new_tokens=NUM_NEW))
    assert 0 < found[0].prefill_s < found[0].total_s


def test_a_refused_model_is_left_as_it_was(tmp_path):
    """An error in the middle of a draft that leaves the model with fewer blocks for whoever comes next."""
    loaded = load(str(save_toy(tmp_path / "gpt2", "gpt2")), dtype="float32")
    before = ids(Greedy(loaded).decode(PROMPTS, max_new_tokens=NUM_NEW))
    with pytest.raises(
        DecodeError, match=r"assistant_early_exit does not run with gpt2.*: list index out of range"
    ) as e:
        SelfSpeculation(loaded, depth=2).decode(PROMPTS, max_new_tokens=NUM_NEW)
    assert "\n" not in str(e.value)
    assert loaded.model.config.num_hidden_layers == 4
    assert ids(Greedy(loaded).decode(PROMPTS, max_new_tokens=NUM_NEW)) == before


def test_recurrent_models_cannot_speculate(tmp_path):
    """A traceback of transformers in the place of its reason."""
    loaded = load(str(save_toy(tmp_path / "mamba", "mamba")), dtype="float32")
    with pytest.raises(DecodeError, match=r"mamba.*stateful models"):
        SelfSpeculation(loaded, depth=2).decode(PROMPTS, max_new_tokens=NUM_NEW)


@pytest.mark.parametrize("depth", [0, 4])
def test_depths_that_draft_nothing(toy, depth):
    """A draft by no block, or by all of them."""
    with pytest.raises(DecodeError, match=f"depth is {depth}, expected 1 to 3"):
        SelfSpeculation(toy, depth=depth)


def test_the_model_is_in_inference_mode(toy):
    """Gradients kept while a baseline is timed."""
    grad = []
    hook = toy.model.register_forward_hook(lambda *_: grad.append(torch.is_inference_mode_enabled()))
    try:
        Greedy(toy).decode(PROMPTS, max_new_tokens=2)
    finally:
        hook.remove()
    assert grad == [True, True]
