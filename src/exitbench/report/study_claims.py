"""What came of the claims of the studies that a report is on: each study's own record, and all of them judged together.

A study's own finding lies in its folder, judged alone. Studies that are shown side by side are judged side by side too,
as `exitbench findings` does it: with one correction for all comparisons. Non-goals: the judging (`study.findings`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from exitbench.errors import ExitbenchError, ReportError
from exitbench.study.cases import read_cases
from exitbench.study.finding import Finding
from exitbench.study.findings import judge_together
from exitbench.study.results import FINDING_FILE, SPEC_FILE
from exitbench.study.spec import read_spec

__all__ = ["Claims", "read_claims"]


@dataclass(frozen=True, kw_only=True)
class Claims:
    """Findings of one study, or of several."""

    own: tuple[Finding, ...] = ()
    """As each study recorded it."""
    together: tuple[Finding, ...] = ()
    """The claims of two studies or more, judged with one correction."""
    not_together: str = ""
    """Why there are none of these although two studies make claims."""
    alone: bool = True
    """Whether all that is reported on is one study."""


def read_claims(folders: Sequence[Path], *, alone: bool) -> Claims:
    """Read what studies found, and judge their claims together if there are several.

    Args:
        folders: of studies.
        alone: whether there is one, and nothing else is reported on.

    Raises:
        ReportError: a record that cannot be read.
        ExitbenchError: a spec that cannot be read.
    """
    own = tuple(finding for folder in folders if (finding := _recorded(folder / FINDING_FILE)) is not None)
    asking = [folder for folder in folders if _asks(folder / SPEC_FILE)]
    together: tuple[Finding, ...] = ()
    why_not = ""
    if len(asking) > 1:
        try:
            together = tuple(judge_together(read_cases(asking)))
        except ExitbenchError as error:  # their own findings are shown all the same
            why_not = str(error)
    return Claims(own=own, together=together, not_together=why_not, alone=alone)


def _asks(file: Path) -> bool:
    return file.is_file() and read_spec(file).finding is not None


def _recorded(file: Path) -> Finding | None:
    if not file.is_file():
        return None
    try:
        return Finding.from_json(json.loads(file.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ReportError(f"{file} is no JSON ({error}); delete it, or make the finding again") from error
    except ReportError as error:
        raise ReportError(f"{file}: {error}; delete it, or make the finding again") from error
