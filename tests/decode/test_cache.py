"""State whose rows come and go, is put back, and is told where it is."""

from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, MistralConfig

from exitbench.decode.cache import RowStates, SlotCache, StateWrittenError, same_state, state_of

SIZES = {"hidden_size": 8, "num_attention_heads": 1, "num_hidden_layers": 2}


def _tokens(*values: float) -> torch.Tensor:
    """(R, 1, 1, 2) keys of one token of some rows."""
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 1, 1, 2).contiguous()


def _seen(cache: SlotCache, layer: int = 0) -> list[list[float]]:
    """What each row holds in a layer, slot after slot."""
    return cache.layers[layer].keys[:, 0, :, 0].tolist()


@pytest.fixture
def cache() -> SlotCache:
    """Of two layers of plain keys and values."""
    return SlotCache(LlamaConfig(**SIZES))


def test_rows_leave_and_come_back(cache):
    """A row that comes back with the state of another, or in another place than asked for."""
    states = RowStates(cache, [(0,), (1,)])
    states.use(0, (0, 1, 2))
    cache.update(_tokens(10, 11, 12), _tokens(0, 0, 0), 0)
    states.use(0, (0, 2))
    cache.update(_tokens(20, 22), _tokens(0, 0), 0)
    states.use(0, (1,))
    assert _seen(cache) == [[11]]
    cache.update(_tokens(21), _tokens(0), 0)
    states.use(0, (2, 0, 1))
    assert _seen(cache) == [[12, 22], [10, 20], [11, 21]]
    assert cache.layers[1].keys is None


def test_a_row_that_ended_is_forgotten(cache):
    """Memory that grows with every answer, or a row that takes another with it."""
    states = RowStates(cache, [(0,)])
    states.use(0, (0, 1))
    cache.update(_tokens(10, 11), _tokens(0, 0), 0)
    states.use(0, (1,))
    states.drop(0)
    states.use(0, (1,))
    assert _seen(cache) == [[11]]
    states.use(0, (0,))  # nothing of it is parked: the block holds what it held
    assert _seen(cache) == [[11]]


def test_any_attribute_with_rows_is_taken_apart():
    """State in dictionaries that stays behind, or whole numbers and shared tensors that are cut into rows."""
    layer = SimpleNamespace(by_name={"conv": torch.tensor([[1.0], [2.0]])}, steps=torch.tensor(3), size=5, seen=True)
    states = RowStates(SimpleNamespace(layers=[layer]), [(0,)])
    states.use(0, (0, 1))
    states.use(0, (1,))
    assert layer.by_name["conv"].tolist() == [[2.0]]
    states.use(0, (1, 0))
    assert layer.by_name["conv"].tolist() == [[2.0], [1.0]]
    assert (layer.steps.item(), layer.size, layer.seen) == (3, 5, True)


def test_a_mark_outlives_what_is_written_in_place():
    """A block put back to what was written since."""
    layer = SimpleNamespace(state={"recurrent": torch.zeros(1, 2)}, seen=False)
    states = RowStates(SimpleNamespace(layers=[layer]), [(0,)])
    mark = states.mark(0)
    assert states.same(0, mark)
    layer.state["recurrent"] += 1
    layer.seen = True
    assert not states.same(0, mark)
    states.restore(0, mark)
    assert layer.state["recurrent"].tolist() == [[0, 0]]
    assert layer.seen is False


def test_a_mark_of_keys_that_only_grow_is_no_copy(cache):
    """A copy of the whole context for every token drafted."""
    cache.update(_tokens(1), _tokens(1), 0)
    assert state_of(cache.layers[0])["keys"] is cache.layers[0].keys


def test_crop_forgets_slots_at_the_end(cache):
    """Drafts that stay in a block after they were rejected, or tokens that go with them."""
    states = RowStates(cache, [(0,), (1,)])
    for value in (1, 2, 3):
        cache.update(_tokens(value), _tokens(value), 0)
    states.crop(0, 2)
    assert _seen(cache) == [[1, 2]]
    states.crop(0, 5)
    assert _seen(cache) == [[1, 2]]


def test_windows_cannot_be_cropped():
    """A window whose first slots are gone, cropped as if they were there."""
    states = RowStates(SlotCache(MistralConfig(**SIZES, sliding_window=4)), [(0,)])
    assert not states.is_croppable(0)


def test_places_are_those_of_the_pass(cache):
    """Positions and masks made from what the first layer has seen, while others wait for tokens."""
    cache.update(_tokens(1), _tokens(1), 0)
    cache.slots = 7
    assert (cache.get_seq_length(), cache.get_seq_length(1), cache.get_query_offset()) == (7, 7, 7)
    assert cache.get_mask_sizes(2, 0) == (9, 0)
    assert cache.has_previous_state()
    windowed = SlotCache(MistralConfig(**SIZES, sliding_window=4))
    windowed.slots = 7
    assert windowed.get_mask_sizes(2, 0) == (5, 4)
    windowed.slots = 2
    assert windowed.get_mask_sizes(2, 0) == (4, 0)


def test_the_last_write_is_made_before_all_stops(cache):
    """A block stopped one write too early or too late."""
    cache.stop_at = 2
    cache.update(_tokens(1), _tokens(1), 0)
    with pytest.raises(StateWrittenError):
        cache.update(_tokens(2), _tokens(2), 0)
    assert _seen(cache) == [[1, 2]]


def test_states_differ_in_a_bit_a_shape_or_a_name():
    """A shortcut taken for right because shapes broadcast or names are missing."""
    state = {"a": torch.zeros(1, 2), "b": {"c": 1}}
    assert same_state(state, {"a": torch.zeros(1, 2), "b": {"c": 1}})
    for other in (
        {"a": torch.tensor([[0, 1e-45]]), "b": {"c": 1}},
        {"a": torch.zeros(2), "b": {"c": 1}},
        {"a": torch.zeros(1, 2), "b": {"d": 1}},
        {"a": torch.zeros(1, 2)},
        {"a": None, "b": {"c": 1}},
    ):
        assert not same_state(state, other)
