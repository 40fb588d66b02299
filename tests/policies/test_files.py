"""Policies as files: there and back, and what is refused."""

import json

import numpy as np
import pytest

from exitbench.errors import ExitbenchError, UnknownNameError
from exitbench.policies.builtin import POLICIES
from exitbench.policies.confidence import DecayingThreshold, TopProbability
from exitbench.policies.files import policy_from_json, read_policy, write_policy
from exitbench.policies.schedule import Schedule
from exitbench.policies.trained import Gate
from watching import seen_of

GATE = Gate(
    threshold=0.75, fitted_at=(1, 3), fitted_on="a" * 64, weights=((0.1, 1 / 3, -2e-9, 4.0, 0.5), (1, 2, 3, 4, 5)),
    schedule=Schedule(depths=(1, 3)),
)  # fmt: skip


@pytest.mark.parametrize("policy", [TopProbability(), DecayingThreshold(threshold=0.3, temperature=2), GATE])
def test_there_and_back(policy, tmp_path):
    """A field lost, another class, numbers rounded."""
    path = tmp_path / "policies" / "one.json"
    write_policy(path, policy)
    again = read_policy(path, num_blocks=4)
    assert type(again) is type(policy)
    assert again == policy
    assert json.loads(path.read_text())["policy"] == policy.name


def test_a_fitted_policy_scores_the_same(tmp_path):
    """What was fitted read back in another order."""
    write_policy(tmp_path / "gate.json", GATE)
    prob = np.random.default_rng(0).random((20, 2))
    seen = seen_of(depths=[1, 3], top1_prob=prob, margin=prob / 2)
    np.testing.assert_array_equal(read_policy(tmp_path / "gate.json", num_blocks=4).scores(seen), GATE.scores(seen))


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    """Half a file in place of a policy that took hours to fit."""
    path = tmp_path / "one.json"
    write_policy(path, GATE)
    broken = TopProbability.model_construct(threshold=float("nan"), schedule=Schedule(), fitted_on=None)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_policy(path, broken)
    assert read_policy(path, num_blocks=4) == GATE
    assert [file.name for file in tmp_path.iterdir()] == ["one.json"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"policy": "top1_prob"}', "unknown policy 'top1_prob'; did you mean 'top1-prob'"),
        ('{"policy": "top1-prob", "treshold": 0.5}', "policy 'top1-prob': treshold: Extra inputs are not permitted"),
        ('{"policy": "top1-prob", "threshold": 1.5}', "threshold 1.5, expected 0 to 1 in a model of 4 blocks"),
        ('{"policy": "top1-prob", "threshold": NaN}', "policy 'top1-prob': threshold: Input should be a finite number"),
        (
            '{"policy": "top1-prob", "threshold": "high"}',
            "policy 'top1-prob': threshold: Input should be a valid number",
        ),
        ('{"policy": "top1-prob", "schedule": {"depths": [4]}}', "probe depth 4 does not exist in a model of 4 blocks"),
        ('{"policy": "top1-prob", "schedule": {"depths": [2, 1]}}', "schedule: probe depths must rise"),
        ('{"policy": "gate", "fitted_at": [1]}', "policy 'gate': policy: what was fitted is there for 0"),
        ('{"threshold": 0.5}', 'not a policy: expected a JSON object with its name under "policy"'),
        ('{"policy": 3}', 'not a policy: expected a JSON object with its name under "policy"'),
        ("[]", 'not a policy: expected a JSON object with its name under "policy"'),
        ("{", "is not JSON"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text, said, tmp_path):
    """A traceback, a default in place of what was mistyped, or a message that does not say which file."""
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(ExitbenchError) as caught:
        read_policy(path, num_blocks=4)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_such_file(tmp_path):
    """A traceback for a mistyped path."""
    with pytest.raises(ExitbenchError, match=r"cannot read policy .*none\.json: No such file"):
        read_policy(tmp_path / "none.json", num_blocks=4)


def test_an_unknown_name_keeps_its_kind_of_error(tmp_path):
    """An error that callers cannot tell apart any more once it carries the path."""
    (tmp_path / "mine.json").write_text('{"policy": "nothing like it"}')
    with pytest.raises(UnknownNameError):
        read_policy(tmp_path / "mine.json", num_blocks=4)


@pytest.mark.parametrize("name", list(POLICIES))
def test_every_policy_is_read_by_its_name(name):
    """A policy that can be saved and not be read."""
    policy = POLICIES.get(name)()
    assert policy_from_json(policy.to_json(), num_blocks=6) == policy
