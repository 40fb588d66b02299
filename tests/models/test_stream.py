"""Where the hidden state is taken and left, and which of its axes are tokens."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from exitbench.models.stream import Layout, Port, candidates_in, candidates_out

SIZES = st.lists(st.integers(1, 4), max_size=2).map(tuple)


@given(before=SIZES, after=SIZES, num_sequences=st.integers(1, 3), num_tokens=st.integers(1, 5))
def test_rows_and_back(before, after, num_sequences, num_tokens):
    """Streams or tokens that change places on the way."""
    layout = Layout(before=before, after=after)
    hidden = torch.arange(layout.width * num_sequences * num_tokens)
    hidden = hidden.reshape(*before, num_sequences, num_tokens, *after)
    rows = layout.to_rows(hidden)
    assert rows.shape == (num_sequences, num_tokens, layout.width)
    assert torch.equal(layout.from_rows(rows), hidden)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((1, 7, 32), Layout(before=(), after=(32,))),
        ((4, 1, 7, 32), Layout(before=(4,), after=(32,))),
        ((1, 7, 4, 32), Layout(before=(), after=(4, 32))),
        ((7, 1, 32), None),
        ((1, 7), None),
        ((2, 7, 32), None),
        ((1, 6, 32), None),
    ],
)
def test_layout_of_a_sequence_of_seven(shape, layout):
    """A tensor with the tokens elsewhere taken for a hidden state."""
    assert Layout.of(torch.zeros(shape), 7) == layout


def test_ports():
    """An argument by the wrong name, an output in another form than the model's code takes apart."""
    old, new = torch.zeros(1, 7, 3), torch.ones(1, 7, 3)
    positional = Port(argument=0, entry=0, num_entries=3)
    assert positional.taken((old, "mask"), {}) is old
    assert positional.given((old, "mask"), {"cache": None}, new) == ((new, "mask"), {"cache": None})
    assert positional.left((old, None, "state")) is old
    replaced = positional.replaced((old, None, "state"), new)
    assert (replaced[0] is new, replaced[1:]) == (True, (None, "state"))
    assert positional.imitated(new) == (new, None, None)
    named = Port(argument="hidden_states", entry=None, num_entries=0)
    assert named.taken((), {"hidden_states": old}) is old
    assert named.given((), {"hidden_states": old, "x": 1}, new) == ((), {"hidden_states": new, "x": 1})
    assert named.left(old) is old
    assert named.imitated(new) is new
    listed = Port(argument=0, entry=1, num_entries=2, is_list=True)
    assert listed.imitated(new) == [None, new]


def test_candidates():
    """Masks of integers, or states of another length, tried as hidden states."""
    hidden, other = torch.zeros(1, 7, 3), torch.zeros(1, 7, 2)
    args, kwargs = (torch.zeros(1, 7, dtype=torch.long), hidden), {"position": other, "cache": object(), "old": None}
    assert [name for name, _ in candidates_in(args, kwargs, 7)] == [1, "position"]
    assert [entry for entry, _ in candidates_out((torch.zeros(3), hidden), 7)] == [1]
    assert [entry for entry, _ in candidates_out(hidden, 7)] == [None]
    assert not list(candidates_out({"hidden": hidden}, 7))
