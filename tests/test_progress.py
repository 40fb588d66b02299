"""Progress bars and messages."""

import io

import pytest
from rich.console import Console

from exitbench.progress import SILENT, Progressor


@pytest.fixture
def shown():
    """A terminal to write to."""
    return Console(file=io.StringIO(), width=100, force_terminal=True)


def test_bar_counts_steps(shown):
    """A bar that stands still, or that ends elsewhere than at its total."""
    with Progressor(shown).bar("Tracing toy", 4) as advance:
        advance(1)
        advance(3)
    text = shown.file.getvalue()
    assert "Tracing toy" in text
    assert "4/4" in text


def test_names_are_no_markup(shown):
    """A model's name with brackets, shown in colour, cut, or as an error."""
    with Progressor(shown).bar("Tracing my[red]model[/oops]", 1) as advance:
        advance(1)
    Progressor(shown).say("from [bold]here")
    assert "my[red]model[/oops]" in shown.file.getvalue()
    assert "from [bold]here" in shown.file.getvalue()


def test_bar_ends_when_the_work_fails(shown):
    """An error hidden by the bar, or a terminal left without cursor."""
    with pytest.raises(RuntimeError, match="broken"), Progressor(shown).bar("Tracing", 2):
        raise RuntimeError("broken")
    assert shown.file.getvalue().count("\x1b[?25l") == shown.file.getvalue().count("\x1b[?25h")


def test_silent(capsys):
    """A quiet run, or the Python API, that writes to the terminal."""
    SILENT.say("nothing")
    with SILENT.bar("nothing", 2) as advance:
        advance(2)
    assert capsys.readouterr() == ("", "")
