"""The command that judges what studies found: findings."""

from pathlib import Path
from typing import Annotated

import typer

from exitbench.cli.printing import command_line, print_json, print_wide
from exitbench.options import JsonOption

__all__ = ["findings"]


def findings(
    studies: Annotated[list[Path], typer.Argument(help="Folders of 'exitbench study'.", metavar="DIR...")],
    out: Annotated[Path | None, typer.Option(help="Markdown file for the whole account.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Judge the claims of studies together, by what their specs fixed beforehand: one row a finding."""
    from exitbench.files import write_text
    from exitbench.report.finding import FINDINGS_WIDTH, findings_table, markdown_findings
    from exitbench.study.cases import read_cases
    from exitbench.study.findings import judge_together

    found = judge_together(read_cases(studies), command=command_line())
    if out is not None:
        write_text(out, markdown_findings(found))
    if as_json:
        print_json([finding.to_json() for finding in found])
    else:
        print_wide(findings_table(found), least=FINDINGS_WIDTH)
