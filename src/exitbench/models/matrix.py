"""Validate many architectures at once, each as a tiny seeded instance."""

from dataclasses import dataclass

from exitbench.errors import ValidationError
from exitbench.models.adapter import ModelAdapter
from exitbench.models.toy import TOY_FAMILIES, toy_model
from exitbench.models.validate import require_valid, validate

__all__ = ["MatrixRow", "check_all"]


@dataclass(frozen=True, kw_only=True)
class MatrixRow:
    """Whether exitbench can measure one model type."""

    model_type: str
    passed: bool
    reason: str | None
    """Why not; None where it passed."""


def check_all() -> list[MatrixRow]:
    """One row for each model type with a toy configuration."""
    rows = []
    for family in TOY_FAMILIES:
        reason = None
        try:
            adapter = ModelAdapter(toy_model(family))
            require_valid(adapter, validate(adapter))
        except ValidationError as error:
            reason = str(error)
        rows.append(MatrixRow(model_type=family, passed=reason is None, reason=reason))
    return rows
