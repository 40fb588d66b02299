"""The command `findings`."""

import json

from command_line import assert_refused, exitbench
from exitbench import api
from exitbench.study.rows import write_rows
from result_rows import model_row


def test_findings_are_judged_together(tmp_path):
    """Each study's claim at its own 5 %, an account that is not written, or figures on the wrong stream."""
    folders = []
    for name in ("kinds", "again"):
        folders.append(tmp_path / name)
        shifted = 0.0 if name == "kinds" else 0.1
        rows = [
            model_row(f"{kind}-{i}", mean + 0.004 * i + shifted, kind=kind, source=f"{name}/{kind}-{i}")
            for kind, mean in (("dense", 0.3), ("moe", 0.2))
            for i in range(3)
        ]
        write_rows(folders[-1] / "cells" / "all.parquet", rows)
        section = "{question: kinds, claim: dense keeps more, against: [moe], smallest_effect: 0.02, cluster: null}"
        spec = f"name: {name}\nworkloads: [text.txt]\nmodels: [a]\nfinding: {section}\n"
        (folders[-1] / "spec.yaml").write_text(spec, encoding="utf-8")
    found = json.loads(exitbench("findings", *folders, "--json").out)
    assert [(finding["study"], finding["verdict"], finding["n_together"]) for finding in found] == [
        ("kinds", "supported", 2),
        ("again", "supported", 2),
    ]
    assert found[0]["command"] == f"exitbench findings {folders[0]} {folders[1]} --json"
    shown = exitbench("findings", folders[0], "--out", tmp_path / "finding.md")
    assert "dense keeps more" in shown.out
    assert (tmp_path / "finding.md").read_text(encoding="utf-8").startswith("# Findings")
    assert_refused(exitbench("findings", tmp_path), "is no study", "spec.yaml")
    advice = "it is a folder, give the name of a file in it"
    assert_refused(exitbench("findings", folders[0], "--out", tmp_path), "cannot write", advice)
    own = api.write_finding(folders[1], command="exitbench study again.yaml")
    assert json.loads((folders[1] / "finding.json").read_text(encoding="utf-8")) == own.to_json()
    assert (own.n_together, own.command) == (1, "exitbench study again.yaml")
    assert "**supported**" in (folders[1] / "finding.md").read_text(encoding="utf-8")
