"""Records in which every missing figure says why it is missing.

In Python such a figure is None and `reasons` holds the text; in JSON it is `"<name>": null, "<name>_reason": ".."`.
"""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

__all__ = ["Reasoned"]

_SUFFIX = "_reason"


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
