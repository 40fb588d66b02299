"""The benchmark scripts run, at a small size; what they measure is nobody's test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments", "keys"),
    [
        ("trace_cost.py", ("--tokens", "96", "--repeats", "1"), ("time_s", "ratio_to_forward")),
        ("equivalence.py", ("--tokens", "60"), ("max_error", "ees", "ees_naive")),
    ],
)
def test_script_ends_with_one_json_object(script, arguments, keys):
    """A script broken by a change of the code it measures."""
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    assert {*keys, "environment", "n_tokens"} <= result.keys()
