"""The page on which model types pass, from rows alone."""

from exitbench.report.coverage import coverage_page, coverage_row

PASSED = {
    "model_type": "llama",
    "passed": True,
    "reason": None,
    "cause": None,
    "kind": "dense",
    "blocks": ("full attention + MLP",),
    "quirks": (),
    "counter_flops_ratio": 1.0,
    "counter_misses": (),
}
MISSED = PASSED | {"model_type": "mamba", "counter_flops_ratio": None, "counter_misses": ("an operation",)}
FAILED = PASSED | {"model_type": "xlnet", "passed": False, "cause": "not causal: sees all", "reason": "a | b"}


def test_counts_are_those_of_the_rows():
    """A count typed into the page, or a type in the wrong table."""
    page = coverage_page([PASSED, MISSED, FAILED], version="5.0", context=22)
    assert "**2 of 3 types pass**" in page
    assert "compared on 1 types, on 1 of which" in page.replace("\n", " ")
    assert page.index("| llama |") < page.index("## Types that do not") < page.index("| xlnet |")


def test_rows():
    """A reason that breaks the table, or a ratio made up where none was measured."""
    assert coverage_row(PASSED) == "| llama | dense | full attention + MLP | 1.000 |  |\n"
    assert "| an operation |" in coverage_row(MISSED)
    assert coverage_row(FAILED) == "| xlnet | not causal: sees all | a / b |\n"
    assert "not known" in coverage_row(FAILED | {"cause": None})
