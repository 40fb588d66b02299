"""Options that commands share: a group is its options, no more and no less."""

import inspect
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from exitbench.config import LensOptions, TraceOptions
from exitbench.options import LensGroup, ReplayGroup, TraceGroup, grouped
from exitbench.replay.assemble import ReplayOptions


@dataclass(frozen=True, kw_only=True)
class _Size:
    width: Annotated[int, typer.Option(help="Across.")] = 3
    tall: Annotated[bool, typer.Option("--tall", help="Upright.")] = False


@pytest.fixture
def seen():
    return []


@pytest.fixture
def app(seen):
    app = typer.Typer()

    @app.command()
    @grouped
    def draw(name: str = "box", *, before: int = 0, size: _Size, after: int = 1) -> None:
        """Draw it."""
        seen.append((name, before, size, after))

    return app


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], ("box", 0, _Size(), 1)),
        (["--width", "7", "--tall", "--after", "2"], ("box", 0, _Size(width=7, tall=True), 2)),
    ],
)
def test_options_arrive_in_their_group(app, seen, given, expected):
    """An option dropped, given to the wrong parameter, or always at its default."""
    assert CliRunner().invoke(app, given).exit_code == 0
    assert seen == [expected]


def test_help_shows_each_option_in_place(app):
    """A group that hides its options from --help, or a command that loses its own sentence."""
    callback = app.registered_commands[0].callback
    assert list(inspect.signature(callback).parameters) == ["name", "before", "width", "tall", "after"]
    shown = CliRunner().invoke(app, ["--help"]).output
    assert all(words in shown for words in ("Draw it.", "Across.", "Upright.", "--after"))


def test_defaults_are_those_of_a_measurement():
    """The command line and the Python API with two ideas of what is measured if nothing is said."""
    assert TraceGroup().options() == TraceOptions()
    assert TraceGroup(also=["kl_prev"]).options() == TraceOptions(also=("kl_prev",))
    assert LensGroup().options() == LensOptions()
    assert TraceGroup(fast=True, limit=3).options() == TraceOptions(fast=True, limit=3)
    assert ReplayGroup().options(trace_seed=0) == ReplayOptions()
    assert ReplayGroup().options(trace_seed=7).seed == 7
    assert ReplayGroup(seed=3, batch=4).options(trace_seed=7) == ReplayOptions(seed=3, batch=4)
