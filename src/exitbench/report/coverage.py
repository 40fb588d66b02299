"""The page of `docs/` that says which model types exitbench can measure, made from the rows of the matrix."""

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["coverage_page", "coverage_row"]

_HEAD = """# Coverage

Every model type of the causal-LM auto mapping of transformers {version}, as a tiny seeded instance. Made by
`python docs/make_coverage.py`; the same rows come from `exitbench check --all --json`, and a test holds this page
against them.

**{num_passed} of {num_types} types pass**: the instance is saved, loaded like any checkpoint and proved
([what is proved](limits.md#what-is-proved-on-every-load)); its parameters add up and the cost of every block is
counted; it is traced and scored. What is shown holds for the code that transformers runs for the real models of that
type. It says nothing of their sizes or weights: those are proved anew on every load.

**FLOPs**: what is reckoned for a token decoded at {context} positions, over what torch's own counter sees, on another
code path (eager attention, experts one by one). It is compared on {num_compared} types, on {num_agreeing} of which the
two agree within 1 %. Where torch's counter passes over an operation, or counts what is no work, that is named instead.

**Decoding**: {num_decoded} of the types that pass can be decoded with early exit ([how](decoding.md)), {num_lossless}
of them losslessly too. What is possible is found on every load, by trial; what costs time is named.
"""
_PASSED = """
## Types that pass

| type | kind | blocks | FLOPs | decoding | what a naive readout would get wrong |
|---|---|---|---|---|---|
"""
_FAILED = """
## Types that do not

| type | why | what was seen |
|---|---|---|
"""


def coverage_page(rows: Iterable[Mapping[str, Any]], *, version: str, context: int) -> str:
    """Markdown of the page.

    Args:
        rows: of the matrix, as `exitbench check --all --json` prints them.
        version: of transformers.
        context: positions at which FLOPs were compared.
    """
    rows = list(rows)
    passed = [row for row in rows if row["passed"]]
    ratios = [row["counter_flops_ratio"] for row in passed if row["counter_flops_ratio"] is not None]
    head = _HEAD.format(
        version=version,
        context=context,
        num_passed=len(passed),
        num_types=len(rows),
        num_compared=len(ratios),
        num_agreeing=sum(abs(ratio - 1) <= 0.01 for ratio in ratios),
        num_decoded=sum(row["decode"] for row in passed),
        num_lossless=sum(row["lossless"] for row in passed),
    )
    failed = [row for row in rows if not row["passed"]]
    return "".join([head, _PASSED, *map(coverage_row, passed), _FAILED, *map(coverage_row, failed)])


def coverage_row(row: Mapping[str, Any]) -> str:
    """One line of one of the page's tables."""
    if not row["passed"]:
        return f"| {row['model_type']} | {row['cause'] or 'not known'} | {row['reason'].replace('|', '/')} |\n"
    ratio = row["counter_flops_ratio"]
    flops = f"{ratio:.3f}" if ratio is not None else "; ".join(row["counter_misses"])
    blocks, quirks = "; ".join(row["blocks"]), "; ".join(row["quirks"])
    return f"| {row['model_type']} | {row['kind']} | {blocks} | {flops} | {_decoding(row)} | {quirks} |\n"


def _decoding(row: Mapping[str, Any]) -> str:
    if not row["decode"]:
        return f"no: {row['decode_cause'] or row['decode_reason'].replace('|', '/')}"
    reasons = [] if row["lossless"] else [f"not losslessly: {row['decode_reason']}"]
    return "; ".join(["yes", *reasons, *row["decode_limits"]])
