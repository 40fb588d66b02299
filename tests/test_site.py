"""The documents as a site: it builds without a warning, is complete, and fetches nothing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import exitbench.api

pytest.importorskip("mkdocs", reason="pip install '.[docs]'")
pytestmark = pytest.mark.slow  # the build, which runs the notebook, takes a dozen seconds

ROOT = Path(__file__).parents[1]
_LOADED = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=[\"']?([^\"' >]+)")
_STYLE_URL = re.compile(r"(?:@import|url\()\s*[\"']?((?:https?:)?//[^\"')]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {str(path.relative_to(site)): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}


def test_every_document_is_a_page(pages):
    """A document that the site leaves out."""
    documents = {path.with_suffix(".html").name for path in (ROOT / "docs").glob("*.md")}
    shown = {"index.html", "CONTRIBUTING.html", "studies/index.html", "benchmarks/index.html"}
    assert documents | shown <= set(pages)


def test_fetches_nothing(site, pages):
    """A font or script from the network: the page would tell others that it was read, and break without them."""
    loaded = {url for page in pages.values() for url in _LOADED.findall(page)}
    assert any(url.endswith(".css") for url in loaded)
    assert any(url.endswith(".js") for url in loaded)
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")] + list(pages.values())
    urls = loaded | {url for style in styles for url in _STYLE_URL.findall(style)}
    assert {url for url in urls if re.match(r"(https?:)?//", url)} == set()
    # What the theme's script would fetch by itself: a drawing library for diagrams, and the figures of a repository.
    assert not any('class="mermaid"' in page or "md-source__repository" in page for page in pages.values())


def test_the_reference_has_every_job(pages):
    """A function of the Python interface that is nowhere described."""
    described = set(re.findall(r'id="exitbench\.api\.(\w+)"', pages["reference.html"]))
    assert set(exitbench.api.__all__) <= described


def test_the_recipes_are_those_of_contributing(pages):
    """Recipes that the site does not show, or shows from a copy."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    recipes = re.findall(r"^### (.+)$", text, re.MULTILINE)
    assert len(recipes) >= 4
    assert all(f">{recipe}<a" in pages["CONTRIBUTING.html"] for recipe in recipes)


def test_lists_tables_and_code_are_what_they_are_on_code_hosts(pages):
    """Markdown that code hosts understand and the site prints as it stands."""
    printed = re.compile(r"<p>(?:\||[-*] |\d+\. )|<p>[^<]*\n(?:\||[-*] )|```")
    raw = {name: found[0] for name, page in pages.items() if (found := printed.search(page))}
    assert raw == {}


def test_the_notebook_is_shown_with_what_it_printed(site, pages):
    """A notebook that can only be downloaded, or whose cells print nothing."""
    page = pages["examples/first_look.html"]
    assert re.search(r"EES 0\.\d+ \[", page)
    (picture,) = re.findall(r'<img alt="[^"]+" src="(first_look[^"]+)"', page)
    assert (site / "examples" / picture).read_bytes().startswith(b"\x89PNG")
    assert 'href="examples/first_look.html"' in pages["examples.html"]
