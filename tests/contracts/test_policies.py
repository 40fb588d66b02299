"""What every registered policy promises, and that an outside package can hold its own to it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from exitbench.testing import TestPolicyContract

ROOT = Path(__file__).parents[2]
OUTSIDE = '''
from typing import ClassVar

import numpy as np

from exitbench.policies import ExitPolicy


class Squared(ExitPolicy):
    """Leave when the square of the margin is large enough (Source: made up)."""

    name: ClassVar[str] = "squared"
    signals: ClassVar[tuple[str, ...]] = ("margin",)

    def scores(self, seen):
        return np.asarray(seen.signals["margin"], dtype=np.float64) ** 2

    @classmethod
    def grid(cls, num_blocks):
        return np.linspace(0, 1, 11)


class Peeking(Squared):
    """Leave at the widest margin of all depths (Source: made up)."""

    name: ClassVar[str] = "peeking"

    def scores(self, seen):
        margin = np.asarray(seen.signals["margin"], dtype=np.float64)
        return margin - (margin.max(axis=1, keepdims=True) if margin.shape[1] else 0)
'''
METADATA = "Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n"
ENTRY_POINTS = "[exitbench.policies]\nsquared = outside:Squared\npeeking = outside:Peeking\n"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What pytest says of a package with two policies of its own, of the example's, and of a built-in one."""
    folder = tmp_path_factory.mktemp("outside")
    info = folder / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (folder / "outside.py").write_text(OUTSIDE)
    lines = ("import add_a_policy  # noqa: F401", "from exitbench.testing import TestPolicyContract  # noqa: F401")
    (folder / "test_contract.py").write_text("\n".join(lines))
    paths = os.pathsep.join(map(str, (folder, ROOT / "src", ROOT / "examples", os.environ.get("PYTHONPATH", ""))))
    chosen = "squared or peeking or top1 or sure-twice"
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-k", chosen]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    return done.stdout


def outcomes(report, policy):
    """Check -> outcome of one policy."""
    lines = [line.split() for line in report.splitlines() if f"[{policy}] " in line and "::" in line.split()[0]]
    return {words[0].split("::")[-1].removesuffix(f"[{policy}]"): words[1] for words in lines}


def test_a_policy_from_outside_is_tested(report):
    """A contract that runs over the built-in policies alone, or checks nothing."""
    got = outcomes(report, "squared")
    checks = {name for name in vars(TestPolicyContract) if name.startswith("test_")}
    assert len(checks) >= 16
    assert got.keys() == checks == outcomes(report, "top1-prob").keys()
    assert set(got.values()) == {"PASSED"}, report[-3000:]


def test_the_policy_of_the_example_keeps_the_contract(report):
    """An example that people copy, mistakes included."""
    got = outcomes(report, "sure-twice")
    assert got.keys() == outcomes(report, "top1-prob").keys()
    assert set(got.values()) == {"PASSED"}, report[-3000:]


def test_a_policy_that_looks_ahead_is_found_out(report):
    """A contract that any policy passes."""
    got = outcomes(report, "peeking")
    failed = {name for name, outcome in got.items() if outcome == "FAILED"}
    assert {"test_is_causal_in_depth", "test_replay_leaves_where_decoding_does"} <= failed
    assert "other scores with" in report
