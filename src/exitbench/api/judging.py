"""What studies found, without a model: claims judged together, and each study's own account of its claim."""

from collections.abc import Sequence
from pathlib import Path

from exitbench.files import write_json, write_text
from exitbench.report.finding import markdown_findings
from exitbench.study.cases import read_cases
from exitbench.study.finding import Finding
from exitbench.study.findings import judge_together
from exitbench.study.results import FINDING_FILE, FINDING_PAGE

__all__ = ["findings", "write_finding"]


def findings(studies: Sequence[Path | str], *, command: str = "") -> list[Finding]:
    """Judge the findings that studies ask for, with one correction for all of them.

    Args:
        studies: folders of studies, each with a `finding` in its spec.
        command: as the records are to show it.
    """
    return judge_together(read_cases(studies), command=command)


def write_finding(study: Path | str, *, command: str = "") -> Finding:
    """Judge the finding of one study on its own, and write it into its folder as JSON and as Markdown.

    Raises:
        ExitbenchError: it cannot be judged.
    """
    (finding,) = findings([study], command=command)
    write_json(Path(study) / FINDING_FILE, finding.to_json())
    write_text(Path(study) / FINDING_PAGE, markdown_findings([finding]))
    return finding
