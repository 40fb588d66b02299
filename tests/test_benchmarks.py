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


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_memory_of_a_large_model():
    """Weights held twice, or pulled into memory where they should wait on disk, or other figures from there.

    2 GiB, as torch and transformers alone take 0.4 GiB.
    """
    command = [sys.executable, str(BENCHMARKS / "large_model_memory.py"), "--gib", "2", "--cast"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    ways = json.loads(done.stdout.splitlines()[-1])["ways"]
    assert [way["weights_on"] for way in ways.values()] == ["cpu", "cpu+disk", "cpu", "cpu+disk"]
    assert [way["bound"] for way in ways.values()] == [1.3, 0.5, 1.3, 0.5]
    for name, way in ways.items():
        assert way["peak_ratio"] < way["bound"], name
    assert ways["in memory"]["sha256"] == ways["on disk"]["sha256"]
    assert ways["cast, in memory"]["sha256"] == ways["cast, on disk"]["sha256"]


def test_gpu_readout_in_the_interpreter():
    """A script that only somebody with a GPU would find broken."""
    pytest.importorskip(
        "triton", reason="the kernels need triton, which exists for Linux: pip install 'exitbench[gpu]'"
    )
    command = [sys.executable, str(BENCHMARKS / "readout_gpu.py"), "--small"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    assert {"n_tokens", "repeats", "environment"} <= result.keys()
    for shape in result["shapes"]:
        assert shape["ids"]["wrong"] == 0
        assert max(shape["max_relative_error"].values()) < 1e-5
        assert shape["extra_bytes"]["pass_1"] is None
        assert shape["extra_bytes_reason"]
