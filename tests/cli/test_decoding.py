"""The command `decode`."""

import json

import pytest

from command_line import assert_refused, contents, exitbench


def decode_arguments(place, *policy):
    prompts = ("--workload", place / "prompts.jsonl", "--max-new-tokens", "6", "--limit", "10")
    return ("decode", place / "toy", *prompts, "--policy", *(policy or ("fixed-depth", "--threshold", "2")), "--quiet")


def test_decode_compares_with_the_full_model(place, tmp_path):
    """Times that are swapped; a lossless answer that is another; a folder that is not resumed."""
    command = (*decode_arguments(place), "--state", "lossless", "--out", tmp_path / "out", "--json")
    outcome = exitbench(*command)
    assert outcome.code == 0, outcome
    result = json.loads(outcome.out)
    assert result["n_prompts"] == 10
    ratio = result["exit_ms_per_token"]["value"] / result["full_ms_per_token"]["value"]
    assert result["time_ratio"]["value"] == pytest.approx(ratio)
    assert result["time_ratio"]["low"] <= ratio <= result["time_ratio"]["high"]
    lines = [json.loads(line) for line in (tmp_path / "out" / "batches.jsonl").read_text().splitlines()]
    assert [turn["ids"] for line in lines for turn in line["turns"]] == [
        turn["full_ids"] for line in lines for turn in line["turns"]
    ]
    before = contents(tmp_path / "out")
    assert json.loads(exitbench(*command).out)["time_ratio"] == result["time_ratio"]
    assert contents(tmp_path / "out") == before


def test_decode_tells_people_whether_it_pays(place, tmp_path):
    """A table without the sentence; a saved policy that is not read; missing figures without a reason."""
    policy = ("top1-prob", "--probes", "2", "--threshold", "0.5")
    shown = exitbench(*decode_arguments(place, *policy), "--out", tmp_path / "a")
    assert "times as long a token" in shown.out, shown
    assert "top1-prob, threshold 0.5" in shown.out
    saved = tmp_path / "policy.json"
    saved.write_text(json.dumps({"policy": "top1-prob", "threshold": 0.5, "schedule": {"depths": [2]}}))
    outcome = exitbench(*decode_arguments(place, saved), "--out", tmp_path / "b", "--json")
    result = json.loads(outcome.out)
    assert result["accepted"] is None
    assert "lossless" in result["accepted_reason"]
    answers = [(tmp_path / name / "batches.jsonl").read_text().splitlines() for name in "ab"]
    assert [json.loads(a)["turns"] for a in answers[0]] == [json.loads(b)["turns"] for b in answers[1]]


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (("oracle-stable",), ("looks into the future",)),
        (("top1-prob",), ("--threshold", "save-policies")),
        (("gate", "--threshold", "0.5"), ("fitted",)),
        (("fixed-depth", "--threshold", "9"), ("threshold 9", "1 to 3")),
        (("no-such",), ("unknown policy", "no-such")),
        (("missing.json",), ("missing.json",)),
        (("margin", "--threshold", "0.5", "--probes", "9"), ("9",)),
        (("fixed-depth", "--threshold", "2", "--batch", "0"), ("--batch",)),
        (("fixed-depth", "--threshold", "2", "--readout", "tuned:none"), ("none",)),
        (("fixed-depth", "--threshold", "2", "--workload", "no-such"), ("no-such",)),
    ],
)
def test_what_cannot_be_decoded_is_refused(place, tmp_path, policy, words):
    """A stack trace, or a folder begun for nothing."""
    assert_refused(exitbench(*decode_arguments(place, *policy), "--out", tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()
