"""Characters of tokens: they add up to the document, or there are none."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from exitbench.config import TraceOptions
from exitbench.models.toy import byte_tokenizer
from exitbench.trace.characters import token_characters
from exitbench.trace.collect import _token_strings, collect
from exitbench.trace.prompts import cut_into_documents
from exitbench.trace.store import read_trace
from exitbench.workloads import Sample, Workload


def _trace_of(make_trace, documents):
    """A trace of documents, each the text and the texts of its tokens; of the first token nothing is predicted."""
    strings = sorted({string for _, pieces in documents for string in pieces})
    ids = [[strings.index(piece) for piece in pieces] for _, pieces in documents]
    target = np.concatenate([document[1:] for document in ids])
    trace = make_trace(
        np.stack([target, target], axis=1),
        target=target,
        prompts=np.repeat(np.arange(len(ids)), [len(document) - 1 for document in ids]),
        categories=["a"] * len(ids),
        prompt_texts=[text for text, _ in documents],
        token_strings=dict(enumerate(strings)),
        on="text",
    )
    return replace(trace, input_id=np.concatenate([document[:-1] for document in ids]).astype(np.int32))


@pytest.mark.parametrize(
    ("text", "pieces", "expected"),
    [
        ("The cat sat.", ["The", " cat", " sat", "."], [4, 4, 1]),
        ("The cat", ["<s>", "The", " cat"], [3, 4]),
        ("The cat", ["[gMASK]", "<sop>", "The", " cat"], [0, 3, 4]),
        ("a\u4e2db", ["a", "\ufffd", "\ufffd", "\ufffd", "b"], [1 / 3, 1 / 3, 1 / 3, 1]),
        ("\u4e2d\u6587b", ["\ufffd", "\ufffd", "\ufffd", "b"], [2 / 3, 2 / 3, 1]),
        ("<s>x", ["<s>", "x"], [1]),
        ("cat", ["<s>", " ca", "t"], [3 * 3 / 4, 3 / 4]),  # the space that the decoder takes
        ("x", ["x", ""], [0]),
    ],
)
def test_closed_forms(make_trace, text, pieces, expected):
    """A start token counted for characters, bytes counted as characters, or the unpredicted first token counted."""
    assert token_characters(_trace_of(make_trace, [(text, pieces)])) == pytest.approx(expected)


def test_documents_are_kept_apart(make_trace):
    """What one document's broken pieces leave over given to another's."""
    trace = _trace_of(
        make_trace, [("ab\u4e2d", ["a", "b", "\ufffd", "\ufffd"]), ("\u00e9a", ["\ufffd", "\ufffd", "a"])]
    )
    assert token_characters(trace) == pytest.approx([1, 0.5, 0.5, 0.5, 1])


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("playing", ["play", "##ing"]),
        ("playing a b", ["play", "##ing", "a", "b"]),  # as many characters, but others
        ("a, b, c, d, e", ["a", " ,", " b", " ,", " c", " ,", " d", " ,", " e"]),
        ("a long text that is not there", ["a", " long"]),
        ("a", ["a", "\ufffd", "more than there is"]),
    ],
)
def test_token_texts_that_are_not_the_document(make_trace, text, pieces):
    """A figure made of the lengths of pieces that are marked, or whose spaces are taken out."""
    reason = token_characters(_trace_of(make_trace, [(text, pieces)]))
    assert reason == "the texts of single tokens do not add up to that of the document 'sample-0'"


def test_no_texts(make_trace):
    """Characters of tokens whose texts could not be read."""
    trace = replace(make_trace([[1, 1]], on="text"), token_strings={})
    assert token_characters(trace) == "the trace has no texts of tokens"


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30), min_size=1, max_size=4))
@pytest.mark.parametrize("start", [False, True])
def test_characters_add_up_to_the_text(make_trace, texts, start):
    """Characters lost or counted twice, in any script, with tokens that are single bytes, and documents cut in one."""
    tokenizer = byte_tokenizer()
    if start:
        tokenizer._tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    samples = tuple(Sample(id=str(i), category="a", turns=(text + "\u00df.",)) for i, text in enumerate(texts))
    workload = Workload(name="any", version="1", licence=None, kind="text", samples=samples)
    documents, ids = cut_into_documents(tokenizer, workload, 9)
    loaded = type("Loaded", (), {"tokenizer": tokenizer})()
    strings = _token_strings(loaded, range(len(tokenizer)))
    trace = _trace_of(
        make_trace, [(d.turns[0], [strings[i] for i in piece]) for d, piece in zip(documents, ids, strict=True)]
    )
    counts = token_characters(trace)
    assert np.all(counts >= 0)
    for number, document in enumerate(documents):
        first = ids[number][0]
        if start:
            expected = len(document.turns[0])
        elif "\ufffd" in strings[first]:
            continue  # what the first token has is not known
        else:
            expected = len(document.turns[0]) - len(strings[first])
        assert counts[trace.sample_index == number].sum() == pytest.approx(expected), document


def test_of_a_traced_model(loaded, text, tmp_path):
    """Texts of tokens as a trace stores them that are not those of its documents."""
    collect(loaded, text, tmp_path / "t", options=TraceOptions(document_tokens=40, fast=True))
    trace = read_trace(tmp_path / "t")
    counts = token_characters(trace)
    assert counts.sum() == sum(len(sample.turns[0]) - 1 for sample in trace.samples)
