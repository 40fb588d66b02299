"""Exit policies as rows: what each looks at, what it needs, where it comes from."""

import inspect
import re
from typing import Any

from exitbench.policies.builtin import ORACLES, POLICIES

__all__ = ["policy_rows"]


def policy_rows() -> list[dict[str, Any]]:
    """One row for every registered policy, then one for every oracle."""
    rows = [
        {
            "name": kind.name,
            "signals": ", ".join(kind.signals),
            "readout": "yes" if kind.reads_out else "no",
            "trained": "yes" if kind.is_trained else "no",
            "state": ", ".join(kind.state),
            "criterion": _criterion(kind),
        }
        for kind in map(POLICIES.get, POLICIES)
    ]
    oracles = [
        {
            "name": kind.name,
            "signals": "all of the future",
            "readout": "yes",
            "trained": "no",
            "state": "replay only",
            "criterion": _criterion(kind),
        }
        for kind in ORACLES
    ]
    return rows + oracles


def _criterion(kind: type) -> str:
    """First sentence of the docstring, with its source where the docstring names one elsewhere."""
    text = inspect.getdoc(kind) or ""
    first = text.split("\n\n")[0].replace("\n", " ")
    source = re.search(r"^Source: .+?(?=;|\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return first if source is None else f"{first} {' '.join(source[0].split())}"
