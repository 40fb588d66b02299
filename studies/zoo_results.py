"""What is kept of the studies of a zoo: scores with intervals as a table, the findings as a page, figures as pictures.

python studies/zoo_results.py exitbench-out/study-zoo-* --pictures exitbench-out/study-zoo-training --out docs/zoo
"""

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from exitbench.api import findings
from exitbench.errors import ExitbenchError
from exitbench.files import write_text
from exitbench.report.finding import markdown_findings
from exitbench.report.study import study_pictures
from exitbench.study.results import read_rows
from exitbench.study.rows import Row
from exitbench.study.spec import read_spec

COLUMNS = (
    *("study", "model", "revision", "tokens_seen", "workload", "workload_sha256", "on", "readout", "dtype"),
    *("weights_sha256", "active_params_b", "figure", "value", "low", "high", "n_tokens", "n_prompts", "reason"),
    "command",
)
FIGURES = (
    *("cell", "ees", "ees_star", "ees_null", "ees_blocks", "ees_per_character", "bits_per_character"),
    *("aes_1pct", "aes_5pct", "ees_untrained_mean"),
)


def table(rows: Sequence[Row]) -> str:
    """The rows of `FIGURES` as CSV, in a fixed order."""
    kept = sorted(
        (row for row in rows if row.figure in FIGURES),
        key=lambda row: (row.study, row.model, row.step or 0, row.on or "", FIGURES.index(row.figure)),
    )
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in kept:
        cells = (getattr(row, name) for name in COLUMNS)
        writer.writerow([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in cells])
    return out.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, nargs="+", help="folders of exitbench study")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, help="the study whose charts are drawn")
    arguments = parser.parse_args()
    rows = [row for folder in arguments.studies for row in read_rows([folder])]
    write_text(arguments.out / "scores.csv", table(rows))
    specs = {folder: read_spec(folder / "spec.yaml") for folder in arguments.studies}
    judged = [folder for folder, spec in specs.items() if spec.finding is not None]
    if judged:
        command = f"exitbench findings {' '.join(map(str, judged))}"
        write_text(arguments.out / "findings.md", markdown_findings(findings(judged, command=command)))
    written = study_pictures(read_rows([arguments.pictures]), arguments.out) if arguments.pictures else []
    sys.stdout.write(f"{len(rows)} rows read, {len(judged)} findings, {len(written)} pictures in {arguments.out}\n")


if __name__ == "__main__":
    try:
        main()
    except ExitbenchError as error:
        sys.exit(str(error))
