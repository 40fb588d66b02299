"""Other people's text on a terminal: without escape sequences, control characters or changes of direction.

Prompts, sample ids, model names and file names come from other people's files.
"""

import re
import unicodedata

__all__ = ["is_control", "plain"]

_TERMINAL_ESCAPE = re.compile(
    "\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?"  # operating-system command: titles, hyperlinks
    "|(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"  # control sequence: colours, cursor
    "|\x1b[@-Z\\\\-_]?"  # two-character escapes, and a lone ESC
)
_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def plain(text: str) -> str:
    """One line of text without escape sequences or control characters, for a terminal or a Markdown cell."""
    without_escapes = _TERMINAL_ESCAPE.sub("", text)
    kept = (" " if c.isspace() else "" if is_control(c) else c for c in without_escapes)
    return " ".join("".join(kept).split())


def is_control(character: str) -> bool:
    """Whether a character moves the cursor, rings, reorders its surroundings or is half of a pair."""
    return unicodedata.category(character) in {"Cc", "Cs"} or character in _BIDI_CONTROLS
