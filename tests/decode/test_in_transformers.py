"""Exit decoding through `model.generate`."""

import pytest
import torch

import exitbench
from exitbench.errors import DecodeError
from exitbench.models.toy import byte_tokenizer, toy_model
from exitbench.policies.static import FixedDepth

EXITS = {"exit_policy": FixedDepth(threshold=2), "exit_state": "lossless"}


@pytest.fixture(scope="module")
def model():
    return toy_model("llama")


def inputs(*texts):
    tokenizer = byte_tokenizer()
    tokenizer.padding_side = "left"
    encoded = tokenizer(list(texts), return_tensors="pt", padding=True)
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


class Kept:
    """A streamer that keeps what it is given."""

    def __init__(self):
        self.tokens, self.ended = [], False

    def put(self, value):
        self.tokens += value.tolist()

    def end(self):
        self.ended = True


@pytest.mark.parametrize("options", [{}, EXITS], ids=["never", "lossless"])
def test_same_ids_as_greedy_generation(model, options):
    """Rows that are padded otherwise, or another answer than the model's own."""
    asked = inputs("hello there", "hi")
    want = model.generate(**asked, do_sample=False, max_new_tokens=12)
    got = model.generate(**asked, max_new_tokens=12, custom_generate=exitbench.generate, **options)
    assert torch.equal(got, want)


def test_form_that_was_asked_for(model):
    asked = {**inputs("hello"), "max_new_tokens": 3, "custom_generate": exitbench.generate}
    plain = model.generate(**asked)
    assert torch.equal(model.generate(**asked, return_dict_in_generate=True).sequences, plain)


def test_streamer_has_every_token_and_is_told_of_the_end(model):
    """Drafts that were not sure yet in the stream."""
    streamer, asked = Kept(), inputs("hello")
    ids = model.generate(**asked, max_new_tokens=9, custom_generate=exitbench.generate, exit_streamer=streamer, **EXITS)
    assert streamer.tokens == ids[0, asked["input_ids"].shape[1] :].tolist()
    assert streamer.ended


def test_interrupted_stream_keeps_what_was_sure(model):
    """A reader that waits for ever; tokens that were sure and are lost."""

    class Breaking(Kept):
        def put(self, value):
            super().put(value)
            if len(self.tokens) == 3:
                raise KeyboardInterrupt

    streamer = Breaking()
    with pytest.raises(KeyboardInterrupt):
        model.generate(**inputs("hello"), max_new_tokens=9, custom_generate=exitbench.generate, exit_streamer=streamer)
    assert len(streamer.tokens) == 3
    assert streamer.ended
    again = model.generate(**inputs("hello"), max_new_tokens=9)  # the blocks are back in the model
    assert again[0, -9 : -9 + 3].tolist() == streamer.tokens


def test_logits_that_are_no_numbers_end_in_one_line():
    """A stream that just stops, or an answer of token 0."""
    broken = toy_model("llama", seed=3)
    streamer = Kept()
    asked = {**inputs("hello"), "max_new_tokens": 6, "custom_generate": exitbench.generate}
    broken.generate(**asked)  # proved while it is whole
    block = broken.model.layers[2]
    calls = []

    def spoil(module, args, output):
        calls.append(0)
        return output * torch.nan if len(calls) > 3 else output

    block.mlp.register_forward_hook(spoil)
    with pytest.raises(DecodeError, match="not finite at depth 4, token 4") as error:
        broken.generate(**asked, exit_streamer=streamer)
    assert "\n" not in str(error.value)
    assert len(streamer.tokens) == 3
    assert streamer.ended


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"do_sample": True}, "sampling"),
        ({"num_beams": 2}, "beams"),
        ({"repetition_penalty": 1.3}, "RepetitionPenaltyLogitsProcessor"),
        ({"min_new_tokens": 3}, "MinNewTokensLengthLogitsProcessor"),
        ({"max_time": 3.0}, "MaxTimeCriteria"),
        ({"exit_policy": FixedDepth(threshold=99)}, "threshold 99"),
    ],
)
def test_what_would_be_ignored_is_refused(model, options, words):
    with pytest.raises(exitbench.errors.ExitbenchError, match=words):
        model.generate(**inputs("hello"), max_new_tokens=5, custom_generate=exitbench.generate, **options)


def test_streamer_takes_one_row(model):
    with pytest.raises(DecodeError, match="several prompts"):
        model.generate(
            **inputs("hello", "hi"), max_new_tokens=5, custom_generate=exitbench.generate, exit_streamer=Kept()
        )


def test_training_mode_is_refused():
    with pytest.raises(DecodeError, match="eval"):
        toy_model("llama", seed=7).train().generate(
            **inputs("hello"), max_new_tokens=5, custom_generate=exitbench.generate
        )
