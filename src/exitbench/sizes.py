"""Sizes of memory as people write them."""

import re

__all__ = ["parse_size", "size_text"]

_UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SIZE = re.compile(r"(?P<number>\d+(\.\d+)?) ?(?P<unit>[MGT]i?B)", re.IGNORECASE)


def parse_size(text: str) -> int | None:
    """Bytes of a size such as "2GiB"; None if it is none."""
    size = _SIZE.fullmatch(text.strip())
    return None if size is None else int(float(size["number"]) * _UNITS[size["unit"].upper()])


def size_text(num_bytes: int) -> str:
    """A size for people, e.g. "512 MiB"."""
    return f"{num_bytes / 2**20:.4g} MiB" if num_bytes < 2**30 else f"{num_bytes / 2**30:.4g} GiB"
