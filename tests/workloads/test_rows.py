"""One JSON object to one sample: the formats and their mistakes."""

import pytest

from exitbench.errors import WorkloadError
from exitbench.workloads.rows import format_of, sample_from_row
from exitbench.workloads.workload import Sample


def parse(row):
    return sample_from_row(row, default_id="9")


def test_prompt_with_defaults():
    """A bare prompt refused, or given an id that depends on anything but its place."""
    assert parse({"prompt": "Hi"}) == Sample(id="9", category="all", turns=("Hi",))


def test_turns_with_everything():
    """Optional fields lost; an integer id, as many tools write it, kept as a number."""
    row = {"turns": ["Hi", "More"], "id": 3, "category": "chat", "reference": "Hello"}
    assert parse(row) == Sample(id="3", category="chat", turns=("Hi", "More"), reference="Hello")


def test_null_reference_is_none():
    """A null reference turned into the text "None"."""
    assert parse({"prompt": "Hi", "reference": None}).reference is None


def test_text():
    """A text taken for a prompt: it would go through the chat template."""
    assert format_of({"text": "Once"}) == "texts"
    assert parse({"text": "Once", "category": "tale"}) == Sample(id="9", category="tale", turns=("Once",))


@pytest.mark.parametrize(
    ("reference", "num_turns", "expected"),
    [
        (["42"], 1, "42"),
        ([["Belgrade"]], 1, "Belgrade"),
        ([["1624", "18th century"]], 1, None),
        (["first", "second"], 2, None),
        (["first"], 2, None),
        ([], 1, None),
        ([""], 1, None),
        (None, 1, None),
    ],
)
def test_spec_bench(reference, num_turns, expected):
    """A nested list stored as a reference, or the answer to the first turn taken for that to the last."""
    turns = [f"turn {index}" for index in range(num_turns)]
    row = {"question_id": 81, "category": "rag", "turns": turns, "reference": reference}
    assert format_of(row) == "Spec-Bench questions"
    assert parse(row) == Sample(id="81", category="rag", turns=tuple(turns), reference=expected)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"promt": "Hi"}, "unknown key 'promt'; did you mean 'prompt'"),
        ({"prompt": "Hi", "catgory": "x"}, "did you mean 'category'"),
        ({"prompt": "Hi", "zzz": 1}, "unknown key 'zzz'; prompts have: prompt, turns, id"),
        ({"text": "Hi", "reference": "x"}, "unknown key 'reference'; texts have: text, id, category"),
        ({"text": "Hi", "prompt": "x"}, "unknown key 'prompt'"),
        ({"question_id": 1, "category": "a", "turns": ["x"], "prompt": "y"}, "unknown key 'prompt'"),
        ({}, "none of 'prompt', 'turns' and 'text'"),
        ({"prompt": "Hi", "turns": ["Hi"]}, "both 'prompt' and 'turns'"),
        ({"prompt": ["Hi"]}, r"'prompt' is \['Hi'\]; expected a string"),
        ({"prompt": None}, "'prompt' is None"),
        ({"turns": "Hi"}, "'turns' is 'Hi'; expected a list of strings"),
        ({"turns": ["Hi", 3]}, "expected a list of strings"),
        ({"turns": []}, "'turns' is empty"),
        ({"text": 3}, "'text' is 3"),
        ({"prompt": "Hi", "id": True}, "'id' is True; expected a string or a whole number"),
        ({"prompt": "Hi", "id": 1.5}, "'id' is 1.5"),
        ({"prompt": "Hi", "id": None}, "'id' is None"),
        ({"prompt": "Hi", "category": 3}, "'category' is 3"),
        ({"prompt": "Hi", "reference": ["a"]}, "'reference' is"),
        ({"question_id": 1, "turns": ["x"]}, "'category' is missing"),
        ({"question_id": 1, "category": "a"}, "none of 'prompt', 'turns'"),
        ({"question_id": 1, "category": "a", "turns": ["x"], "reference": "y"}, "have a list here"),
        ({"question_id": 1, "category": "a", "turns": ["x"], "reference": [7]}, "'reference' holds 7"),
    ],
)
def test_mistakes(row, message):
    """A mistyped key or wrong type accepted, changing what is measured without a word."""
    with pytest.raises(WorkloadError, match=message) as caught:
        parse(row)
    assert "\n" not in str(caught.value)


def test_long_and_strange_values_stay_on_one_line():
    """A message that prints a whole document, or line breaks and escape codes out of the file."""
    with pytest.raises(WorkloadError) as caught:
        parse({"prompt": ["\n\x1b[31m" * 1000]})
    assert len(str(caught.value)) < 150
    assert str(caught.value).isprintable()
