"""What may stand after `--workload`."""

import pytest

from exitbench.errors import UnknownNameError, WorkloadError
from exitbench.workloads import WORKLOADS, load_workload


def test_registered_name():
    """The registry bypassed."""
    assert load_workload("mini").name == "mini"


def test_name_wins_over_file_and_a_path_means_the_file(tmp_path, monkeypatch):
    """A stray file in the working folder that silently replaces a built-in workload."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini").write_text("not a workload")
    assert len(load_workload("mini").samples) == 126
    with pytest.raises(WorkloadError, match=r"'./mini' is not a file that can be read"):
        load_workload("./mini")


@pytest.mark.parametrize("spec", ["mimi", "min", "mini.jsonl"])
def test_near_miss(spec):
    """A mistyped name answered without naming the right one, or without saying that no file was found."""
    with pytest.raises(UnknownNameError, match=r"did you mean 'mini'\?; nor is there a file") as caught:
        load_workload(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", ["no/such/prompts.jsonl", "x" * 5000, "zero\0byte"])
def test_neither_name_nor_file(spec):
    """A traceback from the file system."""
    with pytest.raises(UnknownNameError, match=r"known: .*mini.*; nor is there a file"):
        load_workload(spec)


@pytest.mark.parametrize("name", ["prompts.csv", "prompts", "prompts.json"])
def test_other_suffix(tmp_path, name):
    """A file read in a format that was only guessed."""
    (tmp_path / name).write_text('{"prompt": "Hi"}\n')
    with pytest.raises(WorkloadError, match=r"a file ending in \.jsonl, \.txt, \.md"):
        load_workload(str(tmp_path / name))


def test_plugin(monkeypatch):
    """A workload added by another package not found by its name."""
    monkeypatch.setitem(WORKLOADS._entries, "theirs", WORKLOADS.get("mini"))
    assert load_workload("theirs") == load_workload("mini")
