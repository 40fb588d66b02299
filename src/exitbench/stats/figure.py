"""A figure: a number with its interval and the counts behind it. Missing is None, never 0.

Both models refuse NaN and infinity, so whatever is published is plain JSON. A curve is written with its axis
as a key, the form that all artefacts share, and is read back from it.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_serializer, model_validator

__all__ = ["Curve", "Figure"]

_COLUMNS = ("value", "low", "high")


class Figure(BaseModel):
    """One published number.

    `value` is None where it cannot be computed; `low` and `high` (percentile bootstrap over prompts, 95 %
    unless the card has another level) are None with fewer than 10 prompts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    value: float | None
    low: float | None
    high: float | None
    n_tokens: int
    n_prompts: int

    def text(self, digits: int = 3) -> str:
        """The figure for people, e.g. "0.124 [0.118, 0.131]"; "n/a" where missing."""
        if self.value is None:
            return "n/a"
        if self.low is None or self.high is None:
            return f"{self.value:.{digits}f} [no interval: {self.n_prompts} prompts]"
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


class Curve(BaseModel):
    """Figures along one axis, as parallel lists; `low` and `high` hold None where there is no interval."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    axis: str
    """What `at` counts: "depth", "batch", "threshold" or "alpha"."""
    at: list[int | float]
    value: list[float | None]
    low: list[float | None]
    high: list[float | None]

    @model_validator(mode="before")
    @classmethod
    def _from_json(cls, data: Any) -> Any:
        if isinstance(data, dict) and "axis" not in data:
            axes = sorted(set(data) - set(_COLUMNS))
            if len(axes) != 1:
                raise ValueError(f"a curve has one axis beside {', '.join(_COLUMNS)}, got {axes}")
            return {"axis": axes[0], "at": data[axes[0]]} | {name: data.get(name) for name in _COLUMNS}
        return data

    @model_validator(mode="after")
    def _parallel(self) -> "Curve":
        lengths = {name: len(getattr(self, name)) for name in ("at", *_COLUMNS)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the lists of a curve must be equally long, got {lengths}")
        return self

    @model_serializer
    def as_json(self) -> dict[str, Any]:
        """The curve with its axis as a key: `{"depth": [..], "value": [..], "low": [..], "high": [..]}`."""
        return {self.axis: self.at, "value": self.value, "low": self.low, "high": self.high}
