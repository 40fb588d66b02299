"""The readout in two steps against the model's own code, to the last bit."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from exitbench.models.adapter import ModelAdapter
from exitbench.models.discover import probe_ids
from exitbench.models.readout import Readout
from exitbench.models.toy import toy_model
from families import FAMILIES


def _hidden(adapter):
    return adapter.capture(probe_ids(adapter.model)).flatten(0, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_same_bits_as_the_model(family, dtype):
    """A norm, bias, scale or soft-cap that one of the steps leaves out, or rounds elsewhere."""
    adapter = ModelAdapter(toy_model(family, dtype=dtype))
    readout, hidden = Readout(adapter), _hidden(adapter)
    assert readout.is_split
    want = adapter.readout(hidden)
    got = readout(hidden)
    assert got.dtype == readout.dtype
    assert torch.equal(got.to(want.dtype), want)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_some_tokens_are_those_among_all(family):
    """A rival that wins by a rounding of its own."""
    adapter = ModelAdapter(toy_model(family, dtype=torch.bfloat16))
    readout, hidden = Readout(adapter), _hidden(adapter)
    tokens = torch.tensor([0, 3, 17, 100, 101, 200, 258])
    assert readout.picks_tokens
    for rows in (1, 5, 16, len(hidden)):
        features = readout.features(hidden[:rows])
        some = readout.logits(features, tokens).clone()
        assert torch.equal(some, readout.logits(features)[:, tokens])


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("gemma2", {"final_logit_softcapping": 2.0}),
        ("cohere", {"logit_scale": 0.1}),
        ("granite", {"logits_scaling": 7.0}),
    ],
)
def test_what_follows_the_head_is_kept(family, changes):
    """Logits without their scale or soft-cap: other ties, and other winners after rounding."""
    config = toy_model(family).config
    config.update(changes)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval().requires_grad_(False)
    adapter = ModelAdapter(model)
    readout, hidden = Readout(adapter), _hidden(adapter)
    assert readout.is_split
    features = readout.features(hidden)
    assert torch.equal(readout(hidden), adapter.readout(hidden))
    assert not torch.equal(readout(hidden), torch.nn.functional.linear(features, model.lm_head.weight))


def test_vocabulary_that_is_cut_after_the_head():
    """Rows of a padded head that stand for no token, one of which then wins."""
    adapter = ModelAdapter(_CutHead(AutoConfig.for_model(**toy_model("llama").config.to_dict())).eval())
    readout, hidden = Readout(adapter), _hidden(adapter)
    assert readout.vocab_size == 250
    assert readout.is_split
    assert torch.equal(readout(hidden), adapter.readout(hidden))


_Llama = type(toy_model("llama"))


class _CutHead(_Llama):
    """A Llama that drops the last logits."""

    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = output.logits[..., :250]
        return output


class _TwoPartHead(torch.nn.Module):
    """A head whose weight is not what it multiplies by."""

    def __init__(self, weight):
        super().__init__()
        self.weight = torch.nn.Parameter(weight, requires_grad=False)

    def forward(self, features):
        return features @ (2 * self.weight.T) + 1


def test_a_head_that_is_no_product_with_its_weight_is_left_alone():
    """A shortcut taken because a module looks like a linear layer."""
    model = toy_model("llama")
    model.set_output_embeddings(_TwoPartHead(model.lm_head.weight.clone()))
    adapter = ModelAdapter(model)
    readout, hidden = Readout(adapter), _hidden(adapter)
    assert not readout.is_split
    assert not readout.picks_tokens
    assert torch.equal(readout(hidden), adapter.readout(hidden))
    assert torch.equal(readout.features(hidden), hidden)


@pytest.mark.parametrize("family", ["llama", "gptj", "mamba"])
def test_head_makes_the_logits(family):
    """A bias left out, or rows too many, for those who make the product themselves."""
    adapter = ModelAdapter(toy_model(family, dtype=torch.bfloat16))
    readout = Readout(adapter)
    weight, bias = readout.head
    hidden = readout.probe_KTD.flatten(0, 1)
    assert weight.shape == (readout.vocab_size, 32)
    logits = torch.nn.functional.linear(readout.features(hidden), weight, bias)
    assert torch.equal(logits, readout(hidden))


def test_no_head_where_something_follows_it():
    """Logits without their soft-cap."""
    assert Readout(ModelAdapter(toy_model("gemma2"))).head is None


def test_memory_is_used_again():
    """A fresh allocation for every product, which costs more than the product."""
    adapter = ModelAdapter(toy_model("llama"))
    readout, hidden = Readout(adapter), _hidden(adapter)
    first = readout(hidden)
    assert readout(hidden[:20]).data_ptr() == first.data_ptr()
