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
    "decode": True,
    "lossless": True,
    "decode_reason": None,
    "decode_cause": None,
    "decode_limits": (),
}
MISSED = PASSED | {"model_type": "mamba", "counter_flops_ratio": None, "counter_misses": ("an operation",)}
FAILED = PASSED | {"model_type": "xlnet", "passed": False, "cause": "not causal: sees all", "reason": "a | b"}
GREEDY = PASSED | {"model_type": "a", "lossless": False, "decode_reason": "no way back", "decode_limits": ("slow",)}
REFUSED = PASSED | {"model_type": "b", "decode": False, "lossless": False, "decode_reason": "x | y"}


def test_counts_are_those_of_the_rows():
    """A count typed into the page, or a type in the wrong table."""
    page = coverage_page([PASSED, MISSED, GREEDY, REFUSED, FAILED], version="5.0", context=22)
    assert "**4 of 5 types pass**" in page
    assert "compared on 3 types, on 3 of which" in page.replace("\n", " ")
    assert "**Decoding**: 3 of the types that pass can be decoded with early exit" in page
    assert "2 of them losslessly too" in page.replace("\n", " ")
    assert page.index("| llama |") < page.index("## Types that do not") < page.index("| xlnet |")


def test_rows():
    """A reason that breaks the table, or a ratio made up where none was measured."""
    assert coverage_row(PASSED) == "| llama | dense | full attention + MLP | 1.000 | yes |  |\n"
    assert "| an operation |" in coverage_row(MISSED)
    assert coverage_row(FAILED) == "| xlnet | not causal: sees all | a / b |\n"
    assert "not known" in coverage_row(FAILED | {"cause": None})


def test_decoding_says_what_is_not_possible():
    """A model said to be decoded losslessly that cannot be, or a refusal without its cause."""
    assert "| yes; not losslessly: no way back; slow |" in coverage_row(GREEDY)
    assert "| no: x / y |" in coverage_row(REFUSED)
    assert "| no: no cache |" in coverage_row(REFUSED | {"decode_cause": "no cache"})
