"""Studies of toy models, for the tests of the runner."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from exitbench.models.toy import save_toy

CIRCUMSTANCES = ("created", "seconds", "command")
"""Columns of rows that two runs of one study need not share."""
CONTROL: dict[str, Any] = {
    "question": "control",
    "claim": "large toys keep more",
    "expected": "not supported",
    "factor": "tags.size",
    "reference": "large",
    "against": ["small"],
    "smallest_effect": 0.02,
    "cluster": None,
}
"""A finding on toys with tags of their size."""


def make_place(folder: Path, *, num_models: int = 2, num_prompts: int = 12) -> Path:
    """A folder with toy models toy-0, toy-1, .., prompts and a text."""
    for seed in range(num_models):
        save_toy(folder / f"toy-{seed}", seed=seed)
    prompts = [{"id": f"p{i}", "category": "ab"[i % 2], "prompt": f"Question {i}?"} for i in range(num_prompts)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    (folder / "text.txt").write_text("\n\n".join(f"Sentence {i} of a text about {i * i} things." for i in range(40)))
    return folder


def spec_of(**changes: Any) -> dict[str, Any]:
    """A spec of two toy models on prompts and text; None takes a key out."""
    spec = {
        "name": "toys",
        "settings": {"document_tokens": 24, "limit": 4, "max_new_tokens": 3},
        "workloads": ["prompts.jsonl", "text.txt"],
        "models": ["toy-0", "toy-1"],
    }
    return {key: value for key, value in (spec | changes).items() if value is not None}


def write_spec(folder: Path, spec: Mapping[str, Any] | str, name: str = "spec.yaml") -> Path:
    """Write a spec (JSON is YAML) into the folder of models."""
    path = folder / name
    path.write_text(spec if isinstance(spec, str) else json.dumps(spec), encoding="utf-8")
    return path


def rows_in(folder: Path) -> list[dict[str, Any]]:
    """Every row of a study's folder, but for circumstances, sorted by file."""
    rows = [row for file in sorted((folder / "cells").glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
    return [{name: value for name, value in row.items() if name not in CIRCUMSTANCES} for row in rows]


def stamps(folder):
    """When each file of rows in a study's folder was written."""
    return {file.name: file.stat().st_mtime_ns for file in (folder / "cells").iterdir()}
