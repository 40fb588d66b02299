"""The documents: their examples run, their links lead somewhere, and what they name exists."""

import io
import re
import shlex
import socket
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import typer
from lm_eval._cli import HarnessCLI

from exitbench.cli import app
from exitbench.score.scorecard import ScoreCard
from exitbench.signals import SIGNALS
from exitbench.stats.figure import Curve, Figure
from exitbench.study.spec import ModelEntry, Settings, StudySpec

ROOT = Path(__file__).parents[1]
FOLDERS = (".", "docs", "dev", "benchmarks", "studies")
DOCUMENTS = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("*.md"))
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_OPTION = re.compile(r"--[a-z][a-z-]*")


@dataclass(frozen=True)
class Block:
    """A fenced block: what the fence says, its content, the line it starts on."""

    info: str
    content: str
    line: int


def blocks_of(document):
    text = document.read_text(encoding="utf-8")
    return [Block(m[1], m[2], text.count("\n", 0, m.start()) + 2) for m in _FENCE.finditer(text)]


def name_of(document):
    return str(document.relative_to(ROOT))


RUNNABLE = [path for path in DOCUMENTS if any(block.info == "python run" for block in blocks_of(path))]


NEEDS_NETWORK = {"docs/harness.md"}  # a task of lm-evaluation-harness is fetched


def test_there_are_examples_to_run():
    """Examples that are no longer found, so that the tests below pass on nothing."""
    assert {"docs/concepts.md", "docs/design.md", "docs/python.md"} <= set(map(name_of, RUNNABLE))


def test_every_example_runs_or_is_quoted():
    """Python in a document that no test runs and no source contains: it will be wrong some day and nobody will know."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")]
    loose = {
        f"{name_of(document)}:{block.line}"
        for document in DOCUMENTS
        for block in blocks_of(document)
        if block.info == "python" and not any(block.content in text for text in sources)
    }
    assert {place.partition(":")[0] for place in loose} <= NEEDS_NETWORK, loose


INTERVAL = re.compile(r"-?\d+\.\d+ \[[^\]]+\]")


def test_what_the_decision_rests_on_was_measured():
    """A figure of "Does it pay?" that its sources no longer have, or never had."""
    page = ROOT / "docs" / "does-it-pay.md"
    elsewhere = " ".join(path.read_text(encoding="utf-8") for path in DOCUMENTS if path != page)
    quoted, known = (
        set(INTERVAL.findall(" ".join(text.split()))) for text in (page.read_text(encoding="utf-8"), elsewhere)
    )
    assert len(quoted) > 20
    assert quoted - known == set()


@pytest.mark.parametrize("document", RUNNABLE, ids=name_of)
def test_examples_run_offline(document, tmp_path, monkeypatch):
    """An example that fails, needs the network, or prints something else than the document says."""

    def refuse(*arguments, **keywords):
        raise AssertionError("an example tried to use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)  # toys are too small for more, and tests share the cores
    namespace, printed = {"__name__": "example"}, ""
    for block in blocks_of(document):
        if block.info == "python run":
            out = io.StringIO()
            # Leading newlines put the document's own line numbers into tracebacks.
            code = compile("\n" * (block.line - 1) + block.content, name_of(document), "exec")
            with redirect_stdout(out):
                exec(code, namespace)  # noqa: S102, the project's own text
            printed = out.getvalue()
        elif block.info == "text output":
            assert printed == block.content, f"{name_of(document)}:{block.line}"


def anchors_of(document):
    """Anchors as code hosts make them of headings: lower case, no punctuation, hyphens for spaces."""
    text = _FENCE.sub("", document.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_relative_links_lead_somewhere(document):
    """A file or a heading that was renamed under a link."""
    text = _FENCE.sub("", document.read_text(encoding="utf-8"))
    for link in _LINK.findall(text):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = document if path == "" else document.parent / path
        assert target.exists(), link
        if anchor:
            assert anchor in anchors_of(target), link


def options_by_command():
    commands = typer.main.get_command(app).commands
    harness = HarnessCLI()._subparsers.choices["run"]._option_string_actions  # what 'exitbench lm-eval' passes on to
    return {"lm-eval": set(harness)} | {
        name: {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
        for name, command in commands.items()
        if name != "lm-eval"
    }


def commands_in(document):
    """Every command line of ours in a document: in shell blocks, and in line."""
    for block in blocks_of(document):
        if block.info == "bash":
            yield from (line for line in block.content.splitlines() if line.startswith("exitbench "))
    text = _FENCE.sub("", document.read_text(encoding="utf-8"))
    yield from (code for code in _INLINE.findall(text) if code.startswith("exitbench "))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_commands_and_options_exist(document):
    """A command or an option that was renamed, and is still recommended."""
    known = options_by_command()
    for line in commands_in(document):
        words = shlex.split(line, comments=True)[1:]
        assert words[0] in known or words[0].startswith("--"), line
        unknown = {word for word in words[1:] if word.startswith("--")} - known[words[0]] - {"--help"}
        assert not unknown, line
    text = _FENCE.sub("", document.read_text(encoding="utf-8"))
    everywhere = set().union(*known.values()) | {"--help", "--version"}
    for code in _INLINE.findall(text):
        if code.startswith("--"):
            assert set(_OPTION.findall(code)) <= everywhere, code


def test_every_module_has_its_line_in_the_map():
    """A new module that nobody can find, or one that is gone and still described."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `([\w/]+\.py)` \|", text, re.MULTILINE))
    package = ROOT / "src" / "exitbench"
    modules = {str(path.relative_to(package)) for path in package.rglob("*.py") if not path.name.startswith("__")}
    assert described == modules


def test_every_signal_has_its_column_described():
    """A column of the parts that the schema leaves out."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| list of (\w+) \|", text, re.MULTILINE))
    assert rows == {name: SIGNALS.get(name).dtype.replace("float32", "float") for name in SIGNALS}


def test_every_figure_is_explained():
    """A figure that is printed and nowhere defined."""
    text = (ROOT / "docs" / "metric.md").read_text(encoding="utf-8")
    kinds = (Figure, Figure | None, Curve, Curve | None)
    names = {name for name, field in ScoreCard.model_fields.items() if field.annotation in kinds}
    names |= {"eas", "frontier", "categories"}
    assert {"ees_star", "agreement"} <= names
    assert {name for name in names if f"`{name}`" not in text} == set()


def test_every_key_of_a_spec_is_explained():
    """A key of a study's spec that nobody can find, or one that is gone and still explained."""
    text = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|", text.partition("## What is left")[0], re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) == {name for section in (StudySpec, Settings, ModelEntry) for name in section.model_fields}
