"""What a result says of the machine and libraries that made it."""

import json

import torch

from exitbench import __version__, env
from exitbench.env import environment_report, library_versions


def test_versions_that_belong_to_the_identity():
    """Two versions of a library that can change a number, and one identity."""
    assert library_versions().keys() == {"exitbench", "torch", "transformers"}
    assert library_versions()["torch"] == torch.__version__
    assert library_versions()["exitbench"] == __version__


def test_report_is_plain_json():
    """A value that cannot be saved beside a result, at the end of a long run."""
    report = environment_report()
    assert json.loads(json.dumps(report)) == report
    assert report["num_cores"] >= 1
    assert report["num_threads"] == torch.get_num_threads()
    assert report["libraries"]["torch"] == torch.__version__
    assert report["processor"]


def test_missing_library_is_said_to_be_missing(monkeypatch):
    """A library that is not installed and ends the run, or is left out."""
    monkeypatch.setattr(env, "_MORE_LIBRARIES", ("no-such-library",))
    assert environment_report()["libraries"]["no-such-library"] == "not installed"
