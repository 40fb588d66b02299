"""The anatomy of a model in a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from exitbench.models.shape import Experts
from exitbench.report.anatomy import anatomy_table, block_ranges


def _shown(table):
    console = Console(width=100, record=True, file=None)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


@pytest.mark.parametrize(
    ("numbers", "text"), [([1], "1"), ([1, 2, 3], "1-3"), ([1, 3], "1, 3"), ([1, 2, 5, 7, 8], "1-2, 5, 7-8")]
)
def test_ranges(numbers, text):
    """Blocks that disappear between two ranges."""
    assert block_ranges(numbers) == text


@given(st.sets(st.integers(1, 60), min_size=1))
def test_ranges_name_each_number_once(numbers):
    """A number in two ranges, or in none."""
    named = []
    for part in block_ranges(sorted(numbers)).split(", "):
        first, _, last = part.partition("-")
        named += range(int(first), int(last or first) + 1)
    assert named == sorted(numbers)


def test_alike_blocks_share_a_row(make_shape, make_block):
    """A table with a row a block, or blocks of other costs in one row."""
    experts = make_block(800, experts=Experts(total=64, active=8), parameters=5000)
    shape = make_shape([0.25] * 4, blocks=(make_block(), experts, make_block(), experts))
    shown = _shown(anatomy_table(shape))
    assert "1, 3" in shown
    assert "2, 4" in shown
    assert "MoE (8 of 64)" in shown
    assert f"{shape.num_parameters:,} parameters" in shown
