"""Make docs/coverage.md: every model type, put through what any model goes through. Takes two minutes on one core."""

from dataclasses import asdict
from pathlib import Path

import transformers
from rich.console import Console

from exitbench.files import write_text
from exitbench.matrix import CONTEXT, check_all
from exitbench.progress import Progressor
from exitbench.report.coverage import coverage_page

PAGE = Path(__file__).parent / "coverage.md"

if __name__ == "__main__":
    rows = [asdict(row) for row in check_all(progress=Progressor(Console(stderr=True)))]
    write_text(PAGE, coverage_page(rows, version=transformers.__version__, context=CONTEXT))
    print(f"{sum(row['passed'] for row in rows)} of {len(rows)} types pass: {PAGE}")
