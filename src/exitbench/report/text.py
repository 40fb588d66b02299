"""Untrusted text made safe to show: control characters, terminal escapes, text direction, Markdown and JSON.

Prompts, token strings and model names come from other people's files. Each medium has one function here;
nothing else in the package escapes by hand. HTML itself is escaped by the template engine.
"""

import json
import re
import unicodedata
from typing import Any

from exitbench.plain import is_control, plain

__all__ = ["escape_markdown", "json_for_script", "plain", "visible", "visible_token"]

_NEWLINE, _TAB = "\u23ce", "\u21e5"
_MARKDOWN_SPECIAL = re.compile(r"([\\`*_\[\]#|~])")


def escape_markdown(text: str) -> str:
    """`plain(text)` that renders as itself in Markdown, inside a table cell too."""
    entities = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN_SPECIAL.sub(r"\\\1", entities)


def visible(text: str) -> str:
    """Text for the page: what is invisible or reorders its surroundings becomes a symbol; newlines stay."""
    return "".join(c if c in "\n\t" else _symbol(c) for c in text.replace("\r\n", "\n"))


def visible_token(text: str, *, max_characters: int = 80) -> str:
    """One token's text for the page: as `visible`, newlines and tabs as symbols too."""
    if text == "":
        return "(empty)"
    clipped = text if len(text) <= max_characters else text[:max_characters] + "..."
    return "".join({"\n": _NEWLINE, "\t": _TAB}.get(c) or _symbol(c) for c in clipped)


def json_for_script(value: Any) -> str:
    """Compact JSON that cannot end or confuse the `<script type="application/json">` it is put in."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _symbol(character: str) -> str:
    if not is_control(character):
        return character
    code = ord(character)
    if unicodedata.category(character) == "Cs":
        return "\ufffd"  # half a surrogate pair: no encoding can write it
    if code < 0x20:
        return chr(0x2400 + code)  # Unicode's own pictures of the control characters
    return f"<U+{code:04X}>"
