"""JSON lines and plain text: what is read, and every way in which a file can be wrong."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exitbench.errors import WorkloadError
from exitbench.workloads import Sample, load_workload
from exitbench.workloads.files import parse_jsonl

SPEC_BENCH = """\
{"question_id": 1, "category": "writing", "turns": ["Write a line about rain.", "Now make it rhyme."]}
{"question_id": 2, "category": "math_reasoning", "turns": ["What is 3 + 4?"], "reference": ["Sum.\\n#### 7"]}
{"question_id": 3, "category": "rag", "turns": ["Which river is it?"], "reference": [["the Main", "Main"]]}
{"question_id": 4, "category": "qa", "turns": ["Who lit the lamp?"]}
"""


@pytest.fixture
def write(tmp_path):
    def _write(content, name="prompts.jsonl"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return _write


def test_jsonl(write):
    """Lines lost or out of order; defaults that do not follow the line number."""
    path = write('{"prompt": "Hi"}\n{"prompt": "Ho", "id": "x", "category": "c", "reference": "r"}\n')
    workload = load_workload(str(path))
    assert (workload.name, workload.version, workload.licence) == ("prompts", "unversioned", None)
    assert workload.kind == "prompts"
    assert workload.samples == (
        Sample(id="1", category="all", turns=("Hi",)),
        Sample(id="x", category="c", turns=("Ho",), reference="r"),
    )


@pytest.mark.parametrize("content", ['{"prompt": "Hi"}', '{"prompt": "Hi"}\r\n', '\ufeff{"prompt": "Hi"}\n'])
def test_jsonl_as_editors_write_it(write, content):
    """A missing last line end, Windows line ends or a byte-order mark refused, or changing the hash."""
    plain = load_workload(str(write('{"prompt": "Hi"}\n')))
    assert load_workload(str(write(content))).sha256 == plain.sha256


def test_jsonl_of_texts(write):
    """Texts measured as prompts."""
    workload = load_workload(str(write('{"text": "Once upon a time"}\n{"text": "The end", "id": "z"}\n')))
    assert workload.kind == "text"
    assert [(sample.id, sample.turns) for sample in workload.samples] == [
        ("1", ("Once upon a time",)),
        ("z", ("The end",)),
    ]


def test_spec_bench_format(write):
    """The published question format refused, its turns merged or its categories renamed."""
    workload = load_workload(str(write(SPEC_BENCH, "question.jsonl")))
    assert workload.kind == "prompts"
    assert workload.categories == {"writing": 1, "math_reasoning": 1, "rag": 1, "qa": 1}
    assert [sample.id for sample in workload.samples] == ["1", "2", "3", "4"]
    assert workload.samples[0].turns == ("Write a line about rain.", "Now make it rhyme.")
    assert [sample.reference for sample in workload.samples] == [None, "Sum.\n#### 7", None, None]


def test_other_line_separators_do_not_end_a_line(write):
    """str.splitlines: it cuts JSON strings at U+2028 and U+0085, which JSON allows unescaped."""
    prompt = "one\u2028two\x85three"
    workload = load_workload(str(write(json.dumps({"prompt": prompt}, ensure_ascii=False) + "\n")))
    assert workload.samples[0].turns == (prompt,)


GOOD = b'{"prompt": "Hi"}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "{path} is empty"),
        (b"\n", "{path} is empty"),
        (b"\xef\xbb\xbf", "{path} is empty"),
        (GOOD + b"\n" + GOOD, "{path}:2: the line is blank"),
        (GOOD + b"   \n", "{path}:2: the line is blank"),
        (GOOD + b'{"prompt": "Hi"', "{path}:2: not JSON at column 16"),
        (b"{'prompt': 'Hi'}\n", "{path}:1: not JSON at column 2"),
        (b"[1, 2]\n", "{path}:1: the line holds a JSON list"),
        (b'"Hi"\n', "{path}:1: the line holds a JSON str"),
        (b"null\n", "{path}:1: the line holds a JSON NoneType"),
        (b'{"prompt": "Hi", "prompt": "Ho"}\n', "{path}:1: a key occurs twice"),
        (b'{"id": ' + b"9" * 5000 + b"}\n", "{path}:1: JSON that cannot be read"),
        (b"[" * 200_000 + b"\n", "{path}:1: JSON that cannot be read"),
        (GOOD + b'{"prompt": ""}\n', "{path}:2: 'prompt' is empty"),
        (GOOD + b'{"prompt": 3}\n', "{path}:2: 'prompt' is 3"),
        (GOOD + b'{"propmt": "Hi"}\n', "{path}:2: unknown key 'propmt'; did you mean 'prompt'?"),
        (GOOD + b'{"text": "Hi"}\n', "{path}:2: a row of texts in a file of prompts"),
        (b'{"text": "Hi"}\n' + GOOD, "{path}:2: a row of prompts in a file of texts"),
        (
            b'{"question_id": 1, "category": "a", "turns": ["b"]}\n' + GOOD,
            "{path}:2: a row of prompts in a file of Spec-Bench questions",
        ),
        (
            b'{"prompt": "a", "id": "x"}\n{"prompt": "b"}\n{"prompt": "c", "id": "x"}\n',
            "{path}:3: id 'x' was used on line 1 already",
        ),
        (b'{"prompt": "a", "id": "2"}\n{"prompt": "b"}\n', "{path}:2: id '2' was used on line 1 already"),
        (GOOD + GOOD + b'{"prompt": "\xff"}\n', "{path}:3: byte 0xff is not UTF-8"),
        (GOOD + b'{"prompt": "\\ud83d"}\n', "{path}:2: 'prompt' holds half of a surrogate pair"),
        (GOOD + b'{"prompt": "Hi", "\\ud83d": 1}\n', "{path}:2: unknown key '\\ud83d'"),
    ],
)
def test_bad_jsonl(write, content, message):
    """A mistake in a file accepted, or reported without saying in which file and on which line."""
    path = write(content)
    with pytest.raises(WorkloadError) as caught:
        load_workload(str(path))
    assert str(caught.value).startswith(message.format(path=path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["book.txt", "book.md", "BOOK.TXT"])
def test_plain_text(write, name):
    """A text cut into lines or stripped: its tokens would not be those of the file."""
    text = "  One.\r\n\r\nTwo, \u00e9.\n"
    workload = load_workload(str(write(text, name)))
    assert (workload.kind, workload.name) == ("text", name.split(".")[0])
    assert workload.samples == (Sample(id="text", category="text", turns=(text,)),)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", " is empty"), (b" \n\t\n", " is empty"), (b"one\ntwo \xe9\n", ":2: byte 0xe9 is not UTF-8")],
)
def test_bad_plain_text(write, content, message):
    """An empty text, or one in another encoding, read as something else."""
    path = write(content, "book.txt")
    with pytest.raises(WorkloadError) as caught:
        load_workload(str(path))
    assert str(caught.value).startswith(f"{path}{message}")


def test_unreadable_file(tmp_path):
    """A traceback for a folder whose name ends like a file's."""
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(WorkloadError, match=r"cannot read .*folder.jsonl: Is a directory"):
        load_workload(str(tmp_path / "folder.jsonl"))


words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(str.strip)
turns = st.lists(words, min_size=1, max_size=3).map(tuple)
samples = st.lists(
    st.builds(Sample, id=words, category=words, turns=turns, reference=st.none() | words),
    min_size=1,
    max_size=5,
    unique_by=lambda sample: sample.id,
)


@given(samples, st.booleans())
def test_round_trip(samples, ensure_ascii):
    """Any character changed, dropped or taken for a line end on the way through a file."""
    lines = [
        json.dumps(
            {"id": s.id, "category": s.category, "turns": s.turns, "reference": s.reference},
            ensure_ascii=ensure_ascii,
        )
        for s in samples
    ]
    kind, loaded = parse_jsonl("\n".join(lines).encode(), source="memory")
    assert kind == "prompts"
    assert loaded == tuple(samples)


@given(st.binary(max_size=200))
def test_any_bytes_load_or_raise_one_line(data):
    """Bytes that end in a traceback instead of a message."""
    try:
        parse_jsonl(data, source="memory")
    except WorkloadError as error:
        assert str(error).startswith("memory")  # noqa: PT017 -- loading is allowed as well
        assert "\n" not in str(error)  # noqa: PT017
