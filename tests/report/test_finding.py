"""Findings as a table and as a page: nothing that the record says is lost, nothing of it is markup."""

import io
import re

from rich.console import Console

from exitbench.report.finding import FINDINGS_WIDTH, findings_table, markdown_findings
from exitbench.study.findings import judge_together
from result_rows import case, judged, model_row, rows_of

EVIL = "a|b\x1b[31m<script>*x*"


def _rows(figure="ees"):
    figures = {
        f"{kind}-{i}": (mean + 0.004 * i, {"kind": kind, "vocab_size": 1000 * (i + 1), "active_params_b": 0.125})
        for kind, mean in (("dense", 0.3), ("moe", 0.2))
        for i in range(3)
    }
    return rows_of(figures, figure=figure)


def _shown(findings, width=FINDINGS_WIDTH):
    out = io.StringIO()
    Console(file=out, width=width).print(findings_table(findings))
    return out.getvalue()


def _tables(page):
    """Rows of cells of every table on a page."""
    blocks = re.findall(r"(?:^\|.*\|$\n?)+", page, flags=re.MULTILINE)
    return [[re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()] for block in blocks]


def test_one_row_a_finding():
    """A claim without its number of models, its interval or its verdict, or without the test that decided."""
    control = case(_rows(), "control", factor="kind", reference="moe", against=["dense"], expected="not supported")
    text = _shown(judge_together([case(_rows(), claim="dense keeps more"), control]))
    line = next(line for line in text.splitlines() if "dense keeps more" in line)
    cells = re.split(r"  +", line.strip())
    assert cells == ["dense keeps more", "6", "0.100 [0.091, 0.109]", cells[3], cells[4], "supported"]
    assert cells[3] == "<0.001"
    assert cells[4] == "t-test (permutation: at least 0.100)"
    assert "opposite (expected: not supported)" in text
    assert "Holm over all comparisons of claims here (1), and over those of controls (1)." in text
    assert "made-up: supported: adjusted p" in text


def test_the_page_has_all_that_was_fixed_and_found():
    """A page from which nobody could tell how the verdict came about."""
    rows = [
        *_rows(),
        *_rows("ees_star"),
        model_row("failed", None, "cell", status="failed", reason="out of memory"),
    ]
    finding = judged(rows, sensitivity=["ees_star", "eas"], covariates=["vocab_size"], against=["moe", "ssm"])
    page = markdown_findings([finding])
    for words in (
        "Claim: as claimed",
        "**undecided**",
        "- judged on: text, text, logit",
        "- smallest\\_effect: 0.02",
        "- cluster: none",
        "- sensitivity: figure ees\\_star; figure eas",
        "| failed |  |  |  |  | n/a | n/a | n/a | n/a | n/a | n/a | not measured: out of memory |",
        "no models of both groups to compare",
        "same side",
        "no eas of any of 6 models: no such row",
        "normal figures in either group",
        "would be found with 80 % power",
        "Models are taken to be independent",
        "exitbench findings made-up",
    ):
        assert words in page, words
    assert len(_tables(page)) == 6


def test_every_table_is_rectangular_and_free_of_markup():
    """A label with a bar, a tag or an escape sequence that breaks the page, or the terminal."""
    rows = [model_row(EVIL + row.model, row.value, kind=row.kind) for row in _rows()]
    section = {"otherwise": EVIL, "factor": "total_params_b", "at_least": 0.0}
    figures = [model_row(row.model, row.value, figure, kind=row.kind, total_params_b=1.0)
               for row in rows for figure in (EVIL, "ees")]  # fmt: skip
    finding = judged(figures, claim=EVIL, cluster=None, primary=EVIL, covariates=["tags." + EVIL], require=[section])
    page = markdown_findings([finding.model_copy(update={"title": EVIL, "exitbench": EVIL})])
    assert len(_tables(page)) == 5
    for table in _tables(page):
        assert len({len(row) for row in table}) == 1, table
    assert "*x*" not in page
    assert "<" not in page
    assert "\x1b" not in page
    assert "\x1b" not in _shown([finding]).replace("\x1b[0m", "")


def test_sizes_and_models_can_be_read():
    """A vocabulary of "5.026e+04" or "4.7", a band of "1 strata", models in the order of their files."""
    rows = [model_row(row.model, row.value, kind=row.kind, vocab_size=50_257) for row in reversed(_rows())]
    page = markdown_findings([judged(rows, covariates=["vocab_size"])])
    assert " | 50,257 | " in page
    assert "6 models, 3 dense, 3 moe, 1 stratum" in page
    first = [cells[0].strip() for cells in _tables(page)[1]]
    assert first[2:] == ["dense-0", "dense-1", "dense-2", "moe-0", "moe-1", "moe-2"]


def test_a_missing_interval_says_why():
    """A slope over four models without an interval and without a word."""
    rows = [model_row(f"m{i}", 0.3 + 0.01 * i**2, total_params_b=float(i + 1)) for i in range(4)]
    page = markdown_findings([judged(rows, "size", threshold=2.0)])
    assert "\\[no interval: 24 arrangements of the models allow no p-value below 0.083; 95 % takes 0.05\\]" in page


def test_a_finding_of_nothing_is_shown():
    """A traceback where one model was all there was."""
    finding = judged([model_row("only", 0.3, kind="dense")])
    assert "n/a (no models of both groups to compare)" in markdown_findings([finding])
    assert "undecided" in _shown([finding])
