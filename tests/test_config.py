"""Options are checked when they are made."""

import dataclasses

import pytest

from exitbench.config import TraceOptions
from exitbench.errors import ExitbenchError


def test_defaults_are_valid():
    """A default that its own check refuses."""
    assert TraceOptions() == TraceOptions(on=None, limit=None, max_new_tokens=32, document_tokens=512)


@pytest.mark.parametrize(
    ("option", "least", "flag"),
    [
        ("limit", 1, "--limit"),
        ("max_new_tokens", 1, "--max-new-tokens"),
        ("document_tokens", 2, "--document-tokens"),
        ("generation_batch", 1, "--generation-batch"),
    ],
)
def test_too_small_a_number_is_refused(option, least, flag):
    """A run over no tokens at all, found out at its end."""
    assert getattr(TraceOptions(**{option: least}), option) == least
    for value in (least - 1, -5):
        with pytest.raises(ExitbenchError, match=f"{flag} is {value}, expected at least {least}"):
            TraceOptions(**{option: value})


def test_negative_seed_is_refused():
    """A traceback of the random generator, after everything has been traced."""
    assert TraceOptions(seed=0).seed == 0
    with pytest.raises(ExitbenchError, match="--seed is -1, expected at least 0"):
        TraceOptions(seed=-1)


def test_unknown_mode_is_refused():
    """A misspelt mode taken for the other one."""
    assert TraceOptions(on="text").on == "text"
    with pytest.raises(ExitbenchError, match="--on is 'answer', expected 'answers' or 'text'"):
        TraceOptions(on="answer")


def test_names_of_signals_have_one_order():
    """Two folders, and two identities, of one and the same measurement."""
    assert TraceOptions(also=("b", "a", "b")).also == ("a", "b")
    assert TraceOptions(also=("b", "a")) == TraceOptions(also=("a", "b"))


def test_signals_of_a_trace_without_any_are_refused():
    """A signal asked for that a fast trace leaves out without a word."""
    with pytest.raises(ExitbenchError, match="--also kl_prev goes with a full trace, and --fast records no signals"):
        TraceOptions(fast=True, also=("kl_prev",))


def test_checked_again_when_changed():
    """A sweep that changes options past their checks."""
    options = TraceOptions()
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.limit = 3
    with pytest.raises(ExitbenchError, match="--limit is 0"):
        dataclasses.replace(options, limit=0)


def test_keywords_only_and_no_unknown_ones():
    """Positions mixed up, or a misspelt option ignored."""
    with pytest.raises(TypeError):
        TraceOptions("text")
    with pytest.raises(TypeError):
        TraceOptions(max_tokens=3)
