"""The documents, their fenced blocks, and the command lines in them.

What a fence says is what the tests do with the block:

    python run                executed, offline, with the document's other such blocks in front of it
    text output               what the block before it must print
    python                    found word for word in the sources
    bash                      parsed, and what it runs of exitbench is run, on toys
    bash needs SOMETHING      parsed alone: there are no hub, cluster or hours; the site prints what it needs
    toml                      of a package that adds parts: installed, and the parts used
    yaml                      part of the spec of a study: read by its rules
    sql                       run on the trace of a toy
    text                      for people
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DOCUMENTS", "FENCE", "ROOT", "Block", "blocks_of", "flags_of", "name_of", "prose_of", "shell_lines"]

ROOT = Path(__file__).parents[1]
FOLDERS = (".", "docs", "dev", "benchmarks", "studies")
DOCUMENTS = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("*.md"))
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: what the fence says, its content, the document and the line it starts on."""

    info: str
    content: str
    document: Path
    line: int

    @property
    def place(self) -> str:
        return f"{name_of(self.document)}:{self.line}"


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


def blocks_of(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    return [Block(m[1], m[2], document, text.count("\n", 0, m.start()) + 2) for m in FENCE.finditer(text)]


def prose_of(document: Path) -> str:
    """A document without its fenced blocks."""
    return FENCE.sub("", document.read_text(encoding="utf-8"))


def shell_lines(block: Block) -> Iterator[list[str]]:
    """The words of every command of a shell block, without comments and variables set in front."""
    for line in block.content.splitlines():
        words = shlex.split(line, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if words:
            yield words


def flags_of(script: Path) -> set[str]:
    """Options of a script, those of modules beside it included."""
    text = script.read_text(encoding="utf-8")
    beside = [script.with_name(f"{name}.py") for name in re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE)]
    return set(re.findall(r'"(--[a-z-]+)"', text + "".join(path.read_text() for path in beside if path.exists())))
