"""The models exitbench knows by name, as rows: the pinned short names first, then the catalogue."""

from typing import Any

from exitbench.models.catalogue import ModelFacts, catalogue, marked
from exitbench.models.source import SHORT_NAMES

__all__ = ["model_rows", "model_tables"]


def model_rows() -> list[dict[str, Any]]:
    """Flat rows for programs, all with the same keys; `list` says whether a row is "pinned" or "catalogue"."""
    facts = {name: catalogue().find(pin.hub_id) or ModelFacts() for name, pin in SHORT_NAMES.items()}
    pinned = [{"list": "pinned"} | row | facts[row["name"]].model_dump(mode="json") for row in _pinned()]
    listed = [
        {"list": "catalogue", "name": each.hub_id, "source": "hub", "licence": None} | each.model_dump(mode="json")
        for each in catalogue()
    ]
    return pinned + listed


def model_tables() -> list[list[dict[str, Any]]]:
    """The rows of two tables for people; "?" marks what was never checked."""
    listed = [
        {
            "catalogue": marked(facts, "hub_id"),
            "released": marked(facts, "release_month"),
            "params (10^9)": _params(facts),
            "blocks": marked(facts, "num_blocks"),
            "kind": marked(facts, "kind"),
            "stage": marked(facts, "stage"),
        }
        for facts in catalogue()
    ]
    return [_pinned(), listed]


def _pinned() -> list[dict[str, Any]]:
    return [
        {"name": name, "source": f"PyPI: {pin.release}", "licence": pin.licence} for name, pin in SHORT_NAMES.items()
    ]


def _params(facts: ModelFacts) -> str:
    """All parameters, and after a slash those in use where they are fewer."""
    total, active = marked(facts, "total_params_b"), marked(facts, "active_params_b")
    return total if total == active else f"{total} / {active}"
