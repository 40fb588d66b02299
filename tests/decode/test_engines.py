"""Engines by name, those of other packages too."""

import pytest

from exitbench import registry as registry_module
from exitbench.decode.engine import Answer, Decoded
from exitbench.decode.engines import ENGINES
from exitbench.decode.generation import Greedy
from exitbench.errors import ExitbenchError
from exitbench.models.load import load
from exitbench.models.toy import save_toy

PROMPTS = [[10, 20, 30, 40], [5, 6]]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return load(str(save_toy(tmp_path_factory.mktemp("models") / "toy")), dtype="float32")


class Parrot:
    """An engine of another package: it says the prompt again."""

    name, setting, baseline = "parrot", "", "parrot"

    def decode(self, prompts, *, max_new_tokens):
        answers = tuple(Answer(ids=tuple(prompt[:max_new_tokens])) for prompt in prompts)
        return Decoded(answers=answers, prefill_s=None, total_s=0.0, counts={})


class _EntryPoint:
    name = "parrot"

    def load(self):
        return lambda loaded, settings: Parrot()


def test_an_engine_from_outside(monkeypatch):
    """A package's engine that cannot be had by its name, or one that is missing from the list."""
    own = {name: ENGINES.get(name) for name in ENGINES}
    monkeypatch.setattr(ENGINES, "_entries", dict(own))
    monkeypatch.setattr(ENGINES, "_plugins_loaded", False)
    monkeypatch.setattr(
        registry_module, "entry_points", lambda group: [_EntryPoint()] if group == "exitbench.engines" else []
    )
    assert set(ENGINES) == {*own, "parrot"}
    assert ENGINES.get("parrot")(None, {}).decode([[1, 2, 3]], max_new_tokens=2).num_tokens == 2


def test_our_loop_without_a_policy_never_leaves(toy):
    """A baseline that cannot be asked for by name."""
    never = ENGINES.get("exitbench")(toy, {})
    found = never.decode(PROMPTS, max_new_tokens=8)
    assert "never" in never.setting
    assert [a.ids for a in found.answers] == [a.ids for a in Greedy(toy).decode(PROMPTS, max_new_tokens=8).answers]
    assert {depth for answer in found.answers for depth in answer.depths} == {4}


def test_settings_reach_the_engine(toy):
    """A setting that is read and forgotten."""
    engine = ENGINES.get("exitbench")(toy, {"policy": "fixed-depth", "threshold": 2, "state": "copy"})
    assert engine.setting.startswith("fixed-depth 2")
    assert "copy" in engine.setting
    assert ENGINES.get("transformers-early-exit")(toy, {"depth": 3}).setting == "depth 3"


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("exitbench", {"threshold": 0.9}, "the engine needs the setting 'policy'"),
        ("exitbench", {"policy": "top1-prob"}, "needs a --threshold"),
        ("exitbench", {"polcy": "top1-prob"}, "unknown setting 'polcy'"),
        ("transformers", {"depth": 3}, "unknown setting 'depth' of an engine, expected none"),
        ("transformers-early-exit", {}, "the engine needs the setting 'depth'"),
    ],
)
def test_settings_that_cannot_be(toy, name, settings, said):
    """A typing error that is ignored, so that another thing is timed than was asked for."""
    with pytest.raises(ExitbenchError, match=said):
        ENGINES.get(name)(toy, settings)


def test_baselines_are_engines(toy):
    """A baseline that no engine has, so that nothing can be put in relation to it."""
    for name, settings in {"exitbench": {}, "transformers": {}, "transformers-early-exit": {"depth": 2}}.items():
        assert ENGINES.get(name)(toy, settings).baseline in ENGINES
