"""Sizes of memory as people write them."""

import pytest

from exitbench.sizes import parse_size, size_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2GiB", 2**31), ("512 MiB", 2**29), ("1.5gb", 1_500_000_000), (" 3TB ", 3 * 10**12), ("1MIB", 2**20)],
)
def test_sizes(text, expected):
    """A decimal unit taken for a binary one, or a factor of 1 000."""
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "2", "GiB", "2 GiB more", "-1GiB", "1e9MB", "2KiB", "two GiB"])
def test_no_sizes(text):
    """A number without a unit read as bytes, or half of the text left out."""
    assert parse_size(text) is None


@pytest.mark.parametrize(("size", "expected"), [(2**31, "2 GiB"), (2**29, "512 MiB"), (3 * 2**28, "768 MiB")])
def test_text(size, expected):
    """A size that people cannot read, or that reads back as another."""
    assert size_text(size) == expected
    assert parse_size(expected) == size
