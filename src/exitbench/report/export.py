"""Results as files for other programs and for other pages: CSV, Parquet, Markdown.

CSV and Parquet hold every row; Markdown has the figures of the page's table. Names come from other people's files: in
text they are made plain, and in CSV what a spreadsheet would run as a formula begins with an apostrophe. In Parquet,
which no terminal and no spreadsheet runs, they are as recorded.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from exitbench.files import write_text
from exitbench.report.finding import markdown_findings, markdown_summary
from exitbench.report.study_cells import cells_of
from exitbench.report.study_claims import Claims
from exitbench.report.study_table import Entry, failures, headings, table_rows
from exitbench.report.text import escape_markdown, plain
from exitbench.study.rows import Row

__all__ = ["write_csv", "write_markdown"]

_FORMULA = ("=", "+", "-", "@")


def write_csv(rows: Sequence[Row], out: Path) -> None:
    """Write every row, missing as an empty cell and tags as JSON, atomically."""
    text = io.StringIO()
    names = [field.name for field in fields(Row)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(getattr(row, name)) for name in names] for row in rows)
    write_text(out, text.getvalue())


def write_markdown(rows: Sequence[Row], out: Path, *, title: str, claims: Claims | None = None) -> None:
    """Write the table of cells, under what came of the claims if there are any, atomically."""
    cells = cells_of(rows)
    head = ("model", "facts", "checkpoint", "workload", "readout", *headings(cells), "tokens", "prompts")
    lines = [
        (
            *(row.model, row.facts, row.checkpoint, row.workload, row.readout),
            *map(_entry, row.entries),
            *map(_count, (row.n_tokens, row.n_prompts)),
        )
        for row in table_rows(cells)
    ]
    parts = [f"# {escape_markdown(title)}"]
    if claims is not None:
        parts += _claims(claims)
    if lines:
        parts += ["## Every cell", _table(head, lines)]
    if failed := failures(cells):
        parts += ["## Failed cells", _table(("model", "checkpoint", "workload", "reason"), failed)]
    if commands := dict.fromkeys(plain(row.command) for row in rows if row.command):
        parts += ["## Made with", "\n".join(f"    {command}" for command in commands)]
    write_text(out, "\n\n".join(parts) + "\n")


def _claims(claims: Claims) -> Iterator[str]:
    if claims.together:
        yield "## Findings judged together"
        yield markdown_summary(claims.together)
    elif claims.not_together:
        yield escape_markdown(f"Findings are not judged together: {claims.not_together}")
    for finding in claims.own:
        heading = "# Findings" if claims.alone else f"# Finding of {escape_markdown(finding.study)}"
        page = heading + markdown_findings([finding]).strip().removeprefix("# Findings")
        yield re.sub("^#", "##", page, flags=re.MULTILINE)


def _entry(entry: Entry) -> str:
    return f"{entry.text}: {entry.reason}" if entry.reason else f"{entry.text} {entry.interval}"


def _count(count: int | None) -> str:
    return "n/a" if count is None else f"{count:,}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([escape_markdown(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> Any:
    if isinstance(value, dict):
        return plain(json.dumps(value, sort_keys=True)) if value else ""
    if not isinstance(value, str):
        return value
    text = plain(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
