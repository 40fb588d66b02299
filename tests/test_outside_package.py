"""A package of one's own adds parts by entry points, as the recipes say it; its code is that of the documents."""

import os
import subprocess
import sys
import tomllib

import pytest

from documents import ROOT, blocks_of
from exitbench.models.toy import save_toy

METADATA = "Metadata-Version: 2.1\nName: my_package\nVersion: 0\n"
USED = """
from exitbench.api import TraceOptions, policies_named, replay, trace

options = TraceOptions(max_new_tokens=4)
assert len(set(trace("toy", "capitals", out="capitals", options=options).sample_index)) == 3
traced = trace("toy", "mini", out="traced", options=TraceOptions(limit=12, max_new_tokens=4))
print("odds", traced.signals["odds"].shape == traced.signals["top1_prob"].shape)
print(sorted({point.policy for point in replay(traced, policies_named(traced, ["sure-twice"])).points}))
"""


@pytest.fixture
def installed(tmp_path):
    """A folder on the path in which a package lies as pip would leave it: the recipes' code and entry points."""
    blocks = blocks_of(ROOT / "CONTRIBUTING.md")
    code = [block.content for block in blocks if block.info == "python run"]
    policy = (ROOT / "examples" / "add_a_policy.py").read_text(encoding="utf-8")
    (tmp_path / "my_package.py").write_text("\n".join([policy.partition("def toy_trace")[0], *code]))
    (project,) = [tomllib.loads(block.content)["project"] for block in blocks if block.info == "toml"]
    (tmp_path / "my_package-0.dist-info").mkdir()
    (tmp_path / "my_package-0.dist-info/METADATA").write_text(METADATA)
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {what}\n" for name, what in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (tmp_path / "my_package-0.dist-info/entry_points.txt").write_text("\n".join(groups))
    save_toy(tmp_path / "toy")
    return tmp_path


def test_its_parts_are_used_by_name(installed):
    """A recipe that leads to an error, or to a part that no command knows."""
    path = os.pathsep.join([str(installed), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", USED],
        capture_output=True,
        text=True,
        check=False,
        cwd=installed,
        env=os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    shape, policies = done.stdout.splitlines()
    assert shape == "odds True"
    assert "'sure-twice'" in policies
