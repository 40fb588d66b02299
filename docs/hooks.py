"""Hooks of the site: what lies outside docs/ joins it, and every document keeps its own links.

The documents are read on code hosts too, so their links are between files of the repository. On the site a file of
docs/ lies at the top and any other file keeps its path; links are turned accordingly, so README.md and the recipes in
CONTRIBUTING.md are shown from their one source, as are the examples, whose code stands below the page that lists them.
Non-goals: any text of the site's own.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

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
_MARK = re.compile(r"^(```\w+) (?:run|output)$", re.MULTILINE)
_LINK = re.compile(r"(\[[^\]]*\]\()([^)\s#:]+)(?=[)#])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside docs/ that documents link to."""
    for path in _OUTSIDE:
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turn links between files of the repository into links between pages; leave code alone."""
    here = page.file.src_uri
    if here == "examples.md":
        markdown += "".join(map(_shown, sorted((ROOT / "examples").glob("*.py"))))
    source = here if here in _OUTSIDE else f"docs/{here}"

    def turned(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[2]))
        return link[1] + posixpath.relpath(target.removeprefix("docs/"), posixpath.dirname(here) or ".")

    pieces, end = [], 0
    for fence in _FENCE.finditer(markdown):
        pieces += [_LINK.sub(turned, markdown[end : fence.start()]), _MARK.sub(r"\1", fence[0])]
        end = fence.end()
    return "".join([*pieces, _LINK.sub(turned, markdown[end:])])


def _shown(example: Path) -> str:
    """The code of an example under its name."""
    return f"\n## {example.name}\n\n```python\n{example.read_text(encoding='utf-8')}```\n"
