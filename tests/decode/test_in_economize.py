"""The economize library as an engine; most of it where the extra is installed."""

import sys
from importlib.util import find_spec

import pytest

from exitbench.decode.engines import ENGINES
from exitbench.decode.generation import Greedy
from exitbench.decode.in_economize import Economize
from exitbench.errors import DecodeError
from exitbench.models.load import load
from exitbench.models.toy import save_toy

PROMPTS = [[10, 20, 30, 40], [5, 6], [99, 100, 101]]
NUM_NEW = 12

installed = pytest.mark.skipif(
    find_spec("economize") is None, reason="needs the economize library: pip install 'exitbench[economize]'"
)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return load(str(save_toy(tmp_path_factory.mktemp("models") / "toy")), dtype="float32")


def ids(decoded):
    return [list(answer.ids) for answer in decoded.answers]


@pytest.fixture(scope="module")
def greedy(toy):
    return ids(Greedy(toy, past_ends=True).decode(PROMPTS, max_new_tokens=NUM_NEW))


def test_a_missing_extra_is_named(toy, monkeypatch):
    """An ImportError that leaves the user to guess what to install."""
    monkeypatch.setitem(sys.modules, "economize", None)
    with pytest.raises(DecodeError, match=r"run: pip install 'exitbench\[economize\]'"):
        ENGINES.get("economize")(toy, {})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"technique": "medusa"}, "technique is 'medusa', expected one of greedy, calm, skipdecode, early-exit"),
        ({"technique": "calm"}, "technique 'calm' of economize needs threshold; got nothing"),
        ({"technique": "calm", "threshold": 0.5, "depth": 2}, "needs threshold; got threshold, depth"),
        ({"depth": 2}, "technique 'greedy' of economize needs nothing; got depth"),
    ],
)
def test_settings_that_cannot_be(toy, settings, said):
    """A setting that is ignored, or filled in without a word."""
    with pytest.raises(DecodeError, match=said):
        ENGINES.get("economize")(toy, settings)


@installed
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"technique": "calm", "threshold": 1},
        {"technique": "early-exit", "depth": 2, "draft": 3},
        {"technique": "layer-skip", "skipped": 1, "draft": 3},
    ],
    ids=lambda settings: settings.get("technique", "greedy"),
)
def test_what_does_not_change_answers(toy, greedy, settings):
    """Prompts that are padded wrongly, drafts kept unchecked, a technique of another engine on the same weights."""
    Economize(toy, technique="skipdecode", min_blocks=1, decay=1)
    found = Economize(toy, past_ends=True, **settings).decode(PROMPTS, max_new_tokens=NUM_NEW)
    assert ids(found) == greedy
    assert 0 < found.prefill_s < found.total_s
    assert (found.counts["drafts"] > 0) == ("draft" in settings)
    assert found.counts["accepted"] <= found.counts["drafts"]
    assert ids(Greedy(toy, past_ends=True).decode(PROMPTS, max_new_tokens=NUM_NEW)) == greedy


@installed
@pytest.mark.parametrize(
    "settings",
    [{"technique": "calm", "threshold": 0}, {"technique": "skipdecode", "min_blocks": 2, "decay": 2}],
    ids=lambda settings: settings["technique"],
)
def test_what_skips_blocks(toy, greedy, settings):
    """A technique that is named in the row and never ran."""
    found = Economize(toy, past_ends=True, **settings).decode(PROMPTS, max_new_tokens=NUM_NEW)
    assert ids(found) != greedy
    assert [answer[0] for answer in ids(found)] == [answer[0] for answer in greedy]  # the prompt runs through
    assert found.counts["skipped_blocks"] > 0
    assert [len(answer) for answer in ids(found)] == [NUM_NEW] * 3


@installed
@pytest.mark.parametrize("settings", [{}, {"technique": "early-exit", "depth": 2, "draft": 3}], ids=["plain", "drafts"])
def test_answers_end_with_their_end_token(toy, greedy, settings, monkeypatch):
    """Tokens behind an end, that were computed in the same go, among those counted."""
    end = greedy[0][3]
    monkeypatch.setattr(toy.model.generation_config, "eos_token_id", [end])
    found = ids(Economize(toy, **settings).decode(PROMPTS, max_new_tokens=NUM_NEW))
    assert found == ids(Greedy(toy).decode(PROMPTS, max_new_tokens=NUM_NEW))
    assert found[0] == greedy[0][: greedy[0].index(end) + 1]


@installed
def test_models_that_it_cannot(tmp_path, toy):
    """A layout that is guessed, or an error of the library's in the place of one line."""
    for model_type, said in {
        "gpt2": "economize has no adapter for the model type 'gpt2'",
        "mamba": "recurrent",
    }.items():
        loaded = load(str(save_toy(tmp_path / model_type, model_type)), dtype="float32")
        with pytest.raises(DecodeError, match=said):
            Economize(loaded)
    with pytest.raises(DecodeError, match="economize refuses early-exit, depth 4, draft 3 on toy: exit_layer"):
        Economize(toy, technique="early-exit", depth=4, draft=3)
