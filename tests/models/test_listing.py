"""Known models as rows."""

import json

from exitbench.models.catalogue import catalogue
from exitbench.models.listing import model_rows, model_tables
from exitbench.models.source import SHORT_NAMES


def test_rows_are_flat_and_alike() -> None:
    """Bug: rows that do not make one table, or whose two lists cannot be told apart."""
    rows = model_rows()
    assert len({tuple(row) for row in rows}) == 1
    assert [row["name"] for row in rows if row["list"] == "pinned"] == list(SHORT_NAMES)
    assert [row["name"] for row in rows if row["list"] == "catalogue"] == [facts.hub_id for facts in catalogue()]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    mistral = next(row for row in rows if row["name"] == "mistralai/Mistral-Small-4-119B-2603")
    assert (mistral["active_params_b"], mistral["unverified"]) == (None, ["stage"])


def test_short_names_have_facts() -> None:
    """Bug: the two models at hand left out of the facts because they are known by another name."""
    rows = {row["name"]: row for row in model_rows() if row["list"] == "pinned"}
    assert {name: (row["family"], row["num_blocks"], row["stage"]) for name, row in rows.items()} == {
        "smollm2-135m-instruct": ("SmolLM", 30, "instruct"),
        "gemma3-270m": ("Gemma", 18, "base"),
    }


def test_marks_are_visible() -> None:
    """Bug: a figure nobody checked that looks like all others."""
    listed = {row["catalogue"]: row for row in model_tables()[1]}
    assert listed["openai-community/gpt2-xl?"]["params (10^9)"] == "1.5?"
    assert listed["mistralai/Mistral-Small-4-119B-2603"]["params (10^9)"] == "119 / ?"
    assert listed["mistralai/Mixtral-8x7B-v0.1"]["params (10^9)"] == "46.7 / 12.9"
    assert listed["allenai/Olmo-Hybrid-7B"]["stage"] == "base?"
