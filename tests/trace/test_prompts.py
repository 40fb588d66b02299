"""From text to token ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from exitbench.errors import WorkloadError
from exitbench.models.toy import byte_tokenizer
from exitbench.trace.prompts import conversation_ids, cut_into_documents, has_chat_template
from exitbench.workloads import Sample, Workload

CHAT, BASE = byte_tokenizer(), byte_tokenizer(chat=False)
MARKS = [("<bos>", 2), ("<eos>", 0)]


def _adding(pattern):
    """A tokenizer that puts special tokens around every text."""
    tokenizer = byte_tokenizer(chat=False)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=pattern, special_tokens=[mark for mark in MARKS if mark[0] in pattern]
    )
    return tokenizer


def _bytes(text):
    return BASE(text, add_special_tokens=False).input_ids


def _texts(*texts):
    samples = tuple(Sample(id=f"t{i}", category="c", turns=(text,)) for i, text in enumerate(texts))
    return Workload(name="texts", version="1", licence=None, kind="text", samples=samples)


def test_chat_or_not():
    """A base model treated as one tuned for chat."""
    assert has_chat_template(CHAT)
    assert not has_chat_template(BASE)


def test_conversation_in_the_template():
    """A turn left out, or a template that is tokenised with a second start token."""
    ids = conversation_ids(CHAT, ["Hi", "And?"], ["Yes"], chat=True)
    assert CHAT.decode(ids) == "<user>Hi</user><assistant>Yes</assistant><user>And?</user><assistant>"


def test_template_text_gets_no_second_start_token():
    """A template that writes the start token itself, and a tokenizer that adds another."""
    tokenizer = _adding("<bos> $A")
    tokenizer.chat_template = "<bos>{% for m in messages %}{{ m['content'] }}{% endfor %}"
    assert conversation_ids(tokenizer, ["Hi"], [], chat=True) == [2, *_bytes("Hi")]


def test_conversation_without_template():
    """Turns and answers run together, or an empty answer that leaves a gap."""
    assert conversation_ids(CHAT, ["Hi"], [], chat=False) == _bytes("Hi")
    assert conversation_ids(BASE, ["A", "B", "C"], ["x", ""], chat=False) == _bytes("A\n\nx\n\nB\n\nC")


def test_special_tokens_of_a_plain_prompt():
    """No start token where the model was trained with one; an end token that asks for a new text."""
    assert conversation_ids(_adding("<bos> $A"), ["Hi"], [], chat=False) == [2, *_bytes("Hi")]
    assert conversation_ids(_adding("<bos> $A <eos>"), ["Hi"], [], chat=False) == [2, *_bytes("Hi")]
    assert conversation_ids(_adding("$A <eos>"), ["Hi"], [], chat=False) == _bytes("Hi")


@pytest.mark.parametrize(
    ("pattern", "bos", "start"),
    [("$A <eos>", "<bos>", []), ("<bos> $A <eos>", "<bos>", [2]), ("<eos> $A", "<eos>", [0])],
)
def test_start_of_a_document(pattern, bos, start):
    """A document that begins with an end token, or without the start token that is also the end token."""
    tokenizer = _adding(pattern)
    tokenizer.bos_token = bos
    _, documents = cut_into_documents(tokenizer, _texts("abcd"), 10)
    assert documents == [[*start, *_bytes("abcd")]]


def test_template_that_refuses():
    """A template's own error as a traceback."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('no second turn, please') }}"
    with pytest.raises(
        WorkloadError, match=r"refuses the conversation \(no second turn, please\); try --no-chat-template"
    ):
        conversation_ids(tokenizer, ["Hi"], [], chat=True)


@given(
    st.lists(st.text(min_size=1).filter(lambda t: t.strip()), min_size=1, max_size=3), st.integers(3, 30), st.booleans()
)
def test_documents_are_the_text(texts, length, start):
    """A token lost, repeated or reordered where texts are cut."""
    tokenizer = _adding("<bos> $A") if start else BASE
    if all(len(_bytes(text)) + start < 2 for text in texts):
        return
    samples, documents = cut_into_documents(tokenizer, _texts(*texts), length)
    assert len(samples) == len(documents)
    assert all(2 <= len(document) <= length for document in documents)
    assert len({sample.id for sample in samples}) == len(samples)
    if start:
        assert all(document[0] == 2 for document in documents)
    for number, text in enumerate(texts):
        mine = [d[start:] for s, d in zip(samples, documents, strict=True) if s.id.startswith(f"t{number}/")]
        joined = [token for document in mine for token in document]
        whole = _bytes(text)
        assert joined == whole[: len(joined)]
        assert len(whole) - len(joined) <= (0 if start else 1)


def test_shortest_documents_with_a_start_token():
    """No room left for text: an endless cut, or an error deep inside."""
    samples, documents = cut_into_documents(_adding("<bos> $A"), _texts("abc"), 2)
    assert [len(document) for document in documents] == [2, 2, 2]
    assert [sample.turns for sample in samples] == [("a",), ("b",), ("c",)]


def test_text_too_short_for_any_prediction():
    """A trace without a single row."""
    with pytest.raises(WorkloadError, match="has no text of at least two tokens; give a longer one"):
        cut_into_documents(BASE, _texts("a"), 10)
