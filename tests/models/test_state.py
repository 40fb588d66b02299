"""State that blocks write, in whatever holds it."""

import torch

from exitbench.models.state import StateChange, snapshot


class _Cache:
    """An object that keeps tensors in its attributes, and knows itself."""

    def __init__(self):
        self.keys = torch.zeros(1, 2, 3, 4)
        self.layers = [{"state": torch.zeros(2, 5)}]
        self.count = torch.zeros(1, dtype=torch.long)
        self.self = self


def test_growth_and_change_are_told_apart():
    """Keys and values counted as a state of fixed size, or the other way round."""
    cache = _Cache()
    before = snapshot({"cache": cache})
    cache.keys = torch.cat([cache.keys, torch.ones(1, 2, 1, 4)], dim=2)
    cache.layers[0]["state"] += 1
    cache.count += 1
    change = StateChange.between(before, snapshot({"cache": cache}))
    assert change == StateChange(grown_bytes=2 * 4 * 4, changed_bytes=2 * 5 * 4, changed_elements=10)


def test_nothing_changed():
    """A state reported where none was written."""
    cache = _Cache()
    assert StateChange.between(snapshot(cache), snapshot(cache)) == StateChange()


def test_what_comes_and_goes_is_no_state():
    """Tensors handed on to later blocks of the same token, counted as growth."""
    shared = {}
    before = snapshot(shared)
    shared["keys"] = torch.ones(4)
    assert StateChange.between(before, snapshot(shared)) == StateChange()


def test_one_blocks_share_of_a_stacked_tensor():
    """All of a tensor that holds the states of all blocks counted for each, or one element less for a coincidence."""
    stacked = torch.zeros(1, 32, 4)
    before = snapshot([stacked])
    stacked[0, :, 2] = 1
    stacked[0, 7, 2] = 0
    assert StateChange.between(before, snapshot([stacked])).changed_elements == 32


def test_modules_may_keep_state():
    """A recurrent block that keeps its state itself; its weights are no state."""
    block = torch.nn.Linear(3, 3)
    block.memory = torch.zeros(3)
    assert [tuple(value.shape) for value in snapshot(block).values()] == [(3,)]
