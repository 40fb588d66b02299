"""YAML that cannot surprise: no tags, anchors or double keys, and words that stay words."""

import pytest

from exitbench.errors import StudyError
from exitbench.study.plain_yaml import MAX_BYTES, read_plain_yaml


def read(tmp_path, content):
    path = tmp_path / "spec.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_plain_yaml(path)


def test_words_stay_words(tmp_path):
    """The key `on` read as true, a month as a subtraction or a date, a ratio as base 60, 010 as eight."""
    text = "on: no\nmonth: 2025-04\nday: 2025-04-01\nratio: 1:30\nzero: 010\n<<: merge\n"
    expected = {"on": "no", "month": "2025-04", "day": "2025-04-01", "ratio": "1:30", "zero": "010", "<<": "merge"}
    assert read(tmp_path, text) == expected


def test_numbers_and_constants(tmp_path):
    """A number taken for a word."""
    text = "[1, -2, +3, 0.5, 1e-3, 2., true, false, null, ~, '1', ]"
    assert read(tmp_path, text) == [1, -2, 3, 0.5, 1e-3, 2.0, True, False, None, None, "1"]


BOMB = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: 1\nb: 2\na: 3", ("line 3", "'a' is given twice")),
        ("a: {b: 1, b: 2}", ("line 1", "'b' is given twice")),
        ("a: !!python/object/apply:os.system [ls]", ("line 1", "a tag", "python/object/apply:os.system")),
        ("a: !!binary aGk=", ("a tag",)),
        ("!!set {a}", ("a tag",)),
        (BOMB, ("line 1", "an anchor")),
        ("a: *b", ("an alias",)),
        ("? [1, 2]\n: 3", ("a key is a list or mapping",)),
        ("a: [1, 2", ("line 1",)),
        ("a: 1\n---\nb: 2", ("line 2",)),
        (b"a: \xff", ("not UTF-8 (byte 3)", "save it as UTF-8")),
        ("a: \x07", ("not YAML",)),
        ("[" * 50_000, ("nested too deeply",)),
        (b"#" * (MAX_BYTES + 1), ("larger than 1 MiB",)),
    ],
)
def test_what_is_refused(tmp_path, content, words):
    """Code built from a tag, memory eaten by aliases, one of two values dropped, a traceback in place of a line."""
    with pytest.raises(StudyError) as error:
        read(tmp_path, content)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(str(tmp_path / "spec.yaml"))
    assert all(word in message for word in words), message


def test_byte_order_mark(tmp_path):
    """A file saved by an editor that marks UTF-8."""
    assert read(tmp_path, b"\xef\xbb\xbfa: 1") == {"a": 1}


def test_file_that_is_not_there(tmp_path):
    """A traceback for a typing error in a path, or for a folder."""
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(StudyError, match="cannot read"):
            read_plain_yaml(path)
