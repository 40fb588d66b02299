"""Engines of other packages."""

from types import SimpleNamespace

import pytest

from exitbench import registry
from exitbench.decode.engine import ENGINES, Answer, Decoded
from exitbench.errors import UnknownNameError


def test_an_engine_of_another_package_is_found_by_name(monkeypatch):
    """A group of entry points under another name than documented, or a maker called at import."""
    made = []
    entry = SimpleNamespace(name="theirs", load=lambda: lambda loaded, settings: made.append(dict(settings)))
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry] if group == "exitbench.engines" else [])
    monkeypatch.setattr(ENGINES, "_entries", dict(ENGINES._entries))
    monkeypatch.setattr(ENGINES, "_plugins_loaded", False)
    assert "theirs" in list(ENGINES)
    assert made == []
    ENGINES.get("theirs")(None, {"depth": 3})
    assert made == [{"depth": 3}]
    with pytest.raises(UnknownNameError, match="unknown engine 'their'; did you mean 'theirs'"):
        ENGINES.get("their")


def test_tokens_are_counted_from_the_answers():
    """Throughput of tokens that nobody got."""
    answers = (Answer(ids=(1, 2, 3)), Answer(ids=(), failure="logits are not finite"), Answer(ids=(4,)))
    assert Decoded(answers=answers, prefill_s=None, total_s=1.0, counts={}).num_tokens == 4
