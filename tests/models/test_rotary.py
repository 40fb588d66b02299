"""Rotary bases recovered from what is in force."""

from exitbench.models.rotary import rotary_bases
from exitbench.models.toy import toy_model


def test_rotary_base_in_force(make_toy):
    """A rotary base read from a config that the model does not follow."""
    assert rotary_bases(toy_model("llama")) == {"model.rotary_emb.inv_freq": 10000.0}
    assert list(
        rotary_bases(make_toy("llama", rope_parameters={"rope_type": "default", "rope_theta": 5e5})).values()
    ) == [500000.0]
    assert sorted(rotary_bases(toy_model("gemma3_text")).values()) == [10000.0, 1000000.0]
    assert rotary_bases(toy_model("gpt2")) == {}
    changed = toy_model("llama")
    changed.model.rotary_emb.inv_freq.copy_(200.0 ** -(changed.model.rotary_emb.inv_freq.new_tensor(range(4)) / 4))
    assert list(rotary_bases(changed).values()) == [200.0]


def test_scaled_frequencies_have_no_base(make_toy):
    """Scaled frequencies reported as a base that would not reproduce them."""
    scaled = make_toy("llama", rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0})
    assert list(rotary_bases(scaled).values()) == [None]
