"""Hooks of the site: what lies outside docs/ joins it, and every document keeps its own links.

The documents are read on code hosts too, so their links are between files of the repository. On the site a file of
docs/ lies at the top and any other file keeps its path; links are turned accordingly, so README.md and the recipes in
CONTRIBUTING.md are shown from their one source, as are the examples, whose code stands below the page that lists them.

The notebook is run when the site is built, and shown with what it printed: it is kept without outputs, which would be
those of an older version, so the site's are always of the code that it describes, and a notebook that fails fails the
build. Twenty lines turn it into a page; nbconvert would bring nine packages for that.

Non-goals: any text of the site's own, but for what a command needs that the tests cannot give it.
"""

import base64
import functools
import os
import posixpath
import re
from pathlib import Path
from typing import Any

import nbclient
import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

__all__ = ["on_files", "on_page_markdown"]

ROOT = Path(__file__).parents[1]
_OUTSIDE = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"),
    *("studies/README.md", "benchmarks/README.md", "dev/LOG.md", "src/exitbench/models/catalogue.csv"),
    *(f"examples/{path.name}" for path in sorted((ROOT / "examples").glob("[a-z]*.*"))),
)
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"^(```\w+) (?:run|output|(needs) (.+))$", re.MULTILINE)
_NOTEBOOK = "examples/first_look.ipynb"
_SHOWN = "examples/first_look.md"
_LINK = re.compile(r"(\[[^\]]*\]\()([^)\s#:]+)(?=[)#])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside docs/ that documents link to."""
    for path in _OUTSIDE:
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    page, pictures = _run_notebook((ROOT / _NOTEBOOK).read_text(encoding="utf-8"))
    files.append(File.generated(config, _SHOWN, content=page))
    for name, picture in pictures.items():
        files.append(File.generated(config, f"examples/{name}", content=picture))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turn links between files of the repository into links between pages; leave code alone."""
    here = page.file.src_uri
    if here == "examples.md":
        markdown += "".join(map(_shown, sorted((ROOT / "examples").glob("*.py"))))
    source = here if here in (*_OUTSIDE, _SHOWN) else f"docs/{here}"

    def turned(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[2]))
        if target == _NOTEBOOK and here != _SHOWN:
            target = _SHOWN
        return link[1] + posixpath.relpath(target.removeprefix("docs/"), posixpath.dirname(here) or ".")

    pieces, end = [], 0
    for fence in _FENCE.finditer(markdown):
        pieces += [_LINK.sub(turned, markdown[end : fence.start()]), _plain(fence[0])]
        end = fence.end()
    return "".join([*pieces, _LINK.sub(turned, markdown[end:])])


def _plain(fence: str) -> str:
    """A fence without what it says to the tests; with what they lack, as text for people."""
    needs = "".join(f"\n\n*Not run by the tests: it needs {mark[3]}.*" for mark in _MARK.finditer(fence) if mark[2])
    return _MARK.sub(r"\1", fence) + needs


@functools.cache  # a site that is served is built again at every change
def _run_notebook(text: str) -> tuple[str, dict[str, bytes]]:
    """The notebook as Markdown, with all that it printed, and its pictures by name."""
    notebook = nbformat.reads(text, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300).execute(env=os.environ | {"HF_HUB_OFFLINE": "1"})
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook.cells:
        parts.append(cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if picture := data.get("image/png"):
                name = f"first_look-{len(pictures)}.png"
                pictures[name] = base64.b64decode(picture)
                parts.append(f"![What the cell above draws]({name})")
            elif output.get("name") != "stderr":  # bars of libraries
                parts.append(f"```text\n{(output.get('text') or data['text/plain']).rstrip()}\n```")
    return "\n\n".join([*parts, f"[Download the notebook]({Path(_NOTEBOOK).name}).\n"]), pictures


def _shown(example: Path) -> str:
    """The code of an example under its name."""
    return f"\n## {example.name}\n\n```python\n{example.read_text(encoding='utf-8')}```\n"
