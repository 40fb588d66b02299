"""Policies from model arguments, in every form in which the harness hands them on."""

import sys

import pytest

from exitbench.cli import main
from exitbench.errors import ExitbenchError
from exitbench.harness.arguments import exit_policy
from exitbench.policies.confidence import TopProbability
from exitbench.policies.files import write_policy
from exitbench.policies.schedule import Schedule


@pytest.mark.parametrize(
    ("probes", "text"),
    [("every-2", "every-2"), ("1,3", "1,3"), ([1, 3], "1,3"), ((2,), "2"), (2, "2"), ("2", "2"), (None, "every")],
)
def test_probes_in_every_form(probes, text):
    """One depth that arrives as a number, or several as a list, and end in a traceback."""
    policy = exit_policy("top1-prob", num_blocks=4, threshold="0.5", probes=probes)
    assert (policy.name, policy.threshold, policy.schedule.text) == ("top1-prob", 0.5, text)


def test_no_policy_never_leaves():
    """A default that leaves early, or probes in vain."""
    policy = exit_policy(None, num_blocks=4)
    assert policy.threshold is None
    assert len(policy.schedule.at(4)) == 0


def test_file_is_taken_as_it_is_unless_told(tmp_path):
    """The calibrated threshold or the probe depths of a file thrown away."""
    saved = TopProbability(threshold=0.75, schedule=Schedule(depths=(2, 3)))
    write_policy(tmp_path / "p.json", saved)
    file = str(tmp_path / "p.json")
    assert exit_policy(file, num_blocks=4) == saved
    assert exit_policy(file, num_blocks=4, threshold=0.5) == saved.model_copy(update={"threshold": 0.5})
    assert exit_policy(file, num_blocks=4, probes=1).schedule.text == "1"
    assert exit_policy(saved, num_blocks=4) is saved


@pytest.mark.parametrize(
    ("policy", "more", "words"),
    [
        ("top1-prob", {}, "needs a --threshold"),
        ("top1-prb", {"threshold": 0.5}, "did you mean"),
        ("top1-prob", {"threshold": "much"}, "threshold is 'much'"),
        ("top1-prob", {"threshold": 7}, "threshold 7"),
        ("top1-prob", {"threshold": 0.5, "probes": [4]}, "probe depth 4"),
        ("top1-prob", {"threshold": 0.5, "probes": "often"}, "'often'"),
        (None, {"threshold": 0.5}, "add policy=NAME"),
        (None, {"probes": 2}, "add policy=NAME"),
        (TopProbability(), {"threshold": 0.5}, "add policy=NAME"),
        ("oracle-first-match", {"threshold": 0.5}, "looks into the future"),
        ("nowhere.json", {}, "cannot read policy"),
    ],
)
def test_mistakes_are_named(policy, more, words):
    """A threshold that is ignored, so that the full model is measured in place of the policy."""
    with pytest.raises(ExitbenchError, match=words):
        exit_policy(policy, num_blocks=4, **more)


@pytest.mark.parametrize("arguments", [("maxskip", "toy", "--tasks", "arc_easy"), ("lm-eval", "--help")])
def test_missing_harness_is_named(arguments, monkeypatch, capsys):
    """A traceback where the extra is not installed."""
    monkeypatch.setattr("exitbench.cli.tasks.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["exitbench", *arguments])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "pip install 'exitbench[lm-eval]'" in capsys.readouterr().err
