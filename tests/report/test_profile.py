"""A measured profile in a terminal."""

from rich.console import Console

from exitbench.report.profile import profile_table
from replay_shapes import measured


def _rows(profile):
    console = Console(width=120)
    with console.capture() as captured:
        console.print(profile_table(profile))
    lines = captured.get().splitlines()
    return {cells[0]: cells[1:] for line in lines if (cells := [c.strip() for c in line.split("  ") if c.strip()])}


def test_milliseconds_by_part():
    """Seconds shown as milliseconds, blocks that are not added up, or parts that do not tell the whole unnoticed."""
    rows = _rows(measured())
    assert rows["part"] == ["1 token", "2 tokens", "4 tokens"]
    assert rows["2 blocks"] == ["2e+03", "3e+03", "7e+03"]
    assert rows["whole step"][0] == "4e+03 (4e+03-4e+03)"
    assert rows["accounted"] == ["0.75", "0.90", "1.17"]
    assert rows["completion of all blocks"] == ["2e+03"]


def test_what_was_not_timed():
    """A completion that takes no time, where none was measured."""
    assert _rows(measured(completion=None))["completion of all blocks"] == ["n/a"]
