"""Untrusted text, medium by medium."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exitbench.report.text import escape_markdown, json_for_script, plain, visible, visible_token


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07shown", "shown"),
        ("\x1b]8;;file:///etc\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jcleared", "cleared"),
        ("a\x07b\x7fc\x00", "abc"),
        ("\u202edcba", "dcba"),
        ("two\nlines\r\nhere", "two lines here"),
        ("\ud800x", "x"),
    ],
)
def test_plain_takes_out_what_drives_a_terminal(text, expected):
    """A model's name that clears the screen or sets the window's title."""
    assert plain(text) == expected


@given(st.text())
def test_plain_never_leaves_a_control_character(text):
    """An escape sequence that the pattern misses must still lose its ESC."""
    assert all(c.isprintable() or c not in "\x1b\x9b\n\r\x07" for c in plain(text))
    plain(text).encode()


def test_markdown_shows_the_text_itself():
    """A pipe that splits a table cell, or a name that becomes a link, markup or HTML."""
    assert escape_markdown("a|b\n# c") == "a\\|b \\# c"
    assert escape_markdown("[x](y) *b* `c` _d_") == "\\[x\\](y) \\*b\\* \\`c\\` \\_d\\_"
    assert escape_markdown("<script>&") == "&lt;script&gt;&amp;"


def test_tokens_show_what_cannot_be_seen():
    """A newline token that is an empty box, or an override that reverses the line after it."""
    assert visible_token(" a\n\t") == " a\u23ce\u21e5"
    assert visible_token("\x1b\u202e\x7f") == "\u241b<U+202E><U+007F>"
    assert visible_token("") == "(empty)"
    assert visible_token("\ud83d") == "\ufffd"
    assert visible_token("x" * 500) == "x" * 80 + "..."


def test_prompts_keep_their_lines():
    """A prompt squeezed into one line is unreadable."""
    assert visible("a\r\n\tb\x00") == "a\n\tb\u2400"


@given(st.text())
def test_json_cannot_leave_its_element(text):
    """A closing tag, a comment opener or a line separator inside the page's data."""
    written = json_for_script({text: [text]})
    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written) == {text: [text]}


def test_json_refuses_nan():
    """NaN is no JSON: the whole page would stay empty."""
    with pytest.raises(ValueError, match="JSON"):
        json_for_script([float("nan")])
