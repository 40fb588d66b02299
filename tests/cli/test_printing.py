"""What is told of failed samples."""

from types import SimpleNamespace

import pytest
import typer

from exitbench.cli.printing import fail_if_samples_failed
from exitbench.trace.table import Failure, SampleInfo


def test_failed_sample_is_named_without_its_escapes(capsys):
    """A failed sample whose id sets the terminal's title."""
    sample = SampleInfo(id="\x1b]0;pwn\x07\x1b[31mX", category="all", turns=("hi",))
    failed = SimpleNamespace(failures=(Failure(sample_id=sample.id, reason="r"),), samples=(sample,))
    with pytest.raises(typer.Exit):
        fail_if_samples_failed(failed)
    assert capsys.readouterr().err == "1 of 1 samples failed; first: X: r\n"
