"""The documents: their links lead somewhere, and what they name exists and is explained."""

import re

import pytest
import typer
from lm_eval._cli import HarnessCLI

from documents import DOCUMENTS, ROOT, flags_of, name_of, prose_of
from exitbench.cli import app
from exitbench.score.scorecard import ScoreCard
from exitbench.signals import SIGNALS
from exitbench.stats.figure import Curve, Figure
from exitbench.study.spec import ModelEntry, Settings, StudySpec

_INLINE = re.compile(r"[`']((?=exitbench [a-z]|--[a-z]|[\w /]+\.py )[^`'\n]+)[`']")
PLACES = ("src", "examples", "benchmarks", "studies")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_OPTION = re.compile(r"--[a-z][a-z-]*")


def anchors_of(document):
    """Anchors as code hosts make them of headings: lower case, no punctuation, hyphens for spaces."""
    text = prose_of(document)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_relative_links_lead_somewhere(document):
    """A file or a heading that was renamed under a link."""
    text = prose_of(document)
    for link in _LINK.findall(text):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = document if path == "" else document.parent / path
        assert target.exists(), link
        if anchor:
            assert anchor in anchors_of(target), link


WRITTEN = sorted(
    set((ROOT / "docs").glob("*.md")) - {ROOT / "docs" / f"{made}.md" for made in ("coverage", "parts", "reference")}
)


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_every_page_ends_with_the_way_on(page):
    """A dead end: a reader who has come to the end of a page, and to nothing else."""
    last = prose_of(page).rstrip().rpartition("\n\n")[2]
    assert last.startswith("**Next**: ")
    assert _LINK.search(last)


def options_by_command():
    commands = typer.main.get_command(app).commands
    harness = HarnessCLI()._subparsers.choices["run"]._option_string_actions  # what 'exitbench lm-eval' passes on to
    return {"lm-eval": set(harness)} | {
        name: {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
        for name, command in commands.items()
        if name != "lm-eval"
    }


SOURCES = [path for place in PLACES for path in sorted((ROOT / place).rglob("*.py"))]
QUOTING = [path for path in (*DOCUMENTS, *SOURCES) if _INLINE.search(prose_of(path))]


@pytest.mark.parametrize("path", QUOTING, ids=name_of)
def test_commands_and_options_in_line_exist(path):
    """A command, an option or a script that was renamed, and is still recommended in a sentence or a message."""
    known = options_by_command()
    everywhere = set().union(*known.values()) | {"--help", "--version"}
    for code in _INLINE.findall(prose_of(path)):
        name, options = code.split()[0], set(_OPTION.findall(code))
        if found := re.match(r"exitbench ([a-z-]+)", code):
            assert found[1] in known, code
            assert options <= known[found[1]] | {"--help"}, code
        elif found := re.match(r"(?:python )?((?:\w+/)*\w+\.py) ", code):
            script = next(file for file in (ROOT / found[1], path.parent / found[1]) if file.is_file())
            assert options <= flags_of(script), code
        elif name.startswith("--"):
            assert options <= everywhere | (flags_of(path) if path.suffix == ".py" else set()), code


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
