"""Registering a signal."""

import pytest
import torch

from exitbench.errors import ExitbenchError, UnknownNameError
from exitbench.registry import Registry
from exitbench.signals import SIGNALS, compute_signals
from exitbench.signals import registry as registry_module
from exitbench.signals.registry import recorded_names, signal
from readouts import Given


@pytest.fixture
def own_registry(monkeypatch):
    """A registry of our own, so that the built-in one stays as it is."""
    registry = Registry("signal")
    monkeypatch.setattr(registry_module, "SIGNALS", registry)
    return registry


def test_decorated_function_is_registered_under_its_name(own_registry):
    """A decorator that swallows the function, or loses what was declared of it."""

    @signal(unit="nats", low=0, high=5, confidence=-1, known_while_running=True)
    def spread(view):
        """Largest minus mean logit.

        More words.
        """
        return -view.shifted_mean

    entry = own_registry.get("spread")
    assert entry.compute is spread
    assert (entry.dtype, entry.unit, entry.low, entry.high, entry.confidence) == ("float32", "nats", 0, 5, -1)
    assert (entry.needs_readout, entry.needs_previous, entry.recorded_by_default) == (True, False, True)
    assert entry.summary == "Largest minus mean logit."


def test_two_signals_of_one_name_are_refused(own_registry):
    """A plug-in that silently replaces what older traces mean by a name."""
    declared = {"unit": "", "low": 0, "high": 1, "confidence": 0, "known_while_running": True}

    def twice(view):
        return view.top_logit

    signal(**declared)(twice)
    with pytest.raises(ExitbenchError, match="signal 'twice' is already registered"):
        signal(**declared)(twice)


def test_unknown_signal():
    """A typing error answered with a KeyError."""
    with pytest.raises(UnknownNameError, match="unknown signal 'entropie'; did you mean 'entropy'"):
        SIGNALS.get("entropie")


def test_an_added_signal_is_recorded(monkeypatch):
    """A registered signal that the traces leave out."""
    monkeypatch.setattr(SIGNALS, "_entries", dict(SIGNALS._entries))

    @signal(dtype="int32", unit="tokens", low=0, high=9, confidence=0, known_while_running=True)
    def num_positive(view):
        """Number of logits above 0."""
        return (view.shifted + view.top_logit[:, None] > 0).sum(-1)

    logits = torch.tensor([[[1.0, -1.0, 2.0]], [[-3.0, -1.0, 2.0]]])
    table = compute_signals(logits, torch.tensor([0]), Given(logits))
    assert table["num_positive"].tolist() == [[2, 1]]
    assert table["num_positive"].dtype == "int32"


def test_what_a_trace_records():
    """An optional signal in every trace, or a name taken without a check."""
    assert "kl_prev" not in recorded_names()
    assert set(recorded_names(["kl_prev"])) - set(recorded_names()) == {"kl_prev"}
    with pytest.raises(ExitbenchError, match=r"'entropy', which every trace records, .* \(kl_prev\); leave it out"):
        recorded_names(["entropy"])
    with pytest.raises(UnknownNameError, match="unknown signal 'kl_prv'; did you mean 'kl_prev'"):
        recorded_names(["kl_prv"])


def test_which_signals_cost_a_policy_a_readout():
    """A policy on hidden states alone that is charged for readouts, or one on predictions that is not."""
    free = {name for name in SIGNALS if not SIGNALS.get(name).needs_readout}
    assert free == {"hidden_cosine", "hidden_cosine_prev", "hidden_norm"}
