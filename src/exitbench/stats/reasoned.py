"""Records in which every missing figure says why it is missing.

In Python such a figure is None and `reasons` holds the text; in JSON it is `"<name>": null, "<name>_reason": ".."`.
"""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

__all__ = ["Reasoned", "with_reasons"]

_SUFFIX = "_reason"


def with_reasons(outcomes: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a record from figures, or strings that say why there is none.

    Args:
        outcomes: field -> its value, never a text itself, or the reason why it has none.
    """
    values = {name: None if isinstance(outcome, str) else outcome for name, outcome in outcomes.items()}
    return values | {"reasons": {name: text for name, text in outcomes.items() if isinstance(text, str)}}


class Reasoned(BaseModel):
    """A frozen record whose nulls and reasons match."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    reasons: dict[str, str]
    """Why a field is None, by its name."""

    @model_validator(mode="before")
    @classmethod
    def _from_json(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "reasons" in data:
            return data
        reasons = {name.removesuffix(_SUFFIX): text for name, text in data.items() if name.endswith(_SUFFIX)}
        return {name: value for name, value in data.items() if not name.endswith(_SUFFIX)} | {"reasons": reasons}

    @model_validator(mode="after")
    def _every_null_has_a_reason(self) -> Self:
        missing = {name for name, value in self if value is None}
        if missing != set(self.reasons):
            raise ValueError(f"null figures and reasons must match, differ in {sorted(missing ^ set(self.reasons))}")
        return self

    @model_serializer(mode="wrap")
    def _as_json(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        flat = {}
        for name, value in handler(self).items():
            if name != "reasons":
                flat[name] = value
                if name in self.reasons:
                    flat[name + _SUFFIX] = self.reasons[name]
        return flat
