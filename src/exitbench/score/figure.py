"""A figure: a number with its interval and the counts behind it. Missing is None, never 0."""

from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = ["Curve", "Figure"]


class Figure(BaseModel):
    """One published number.

    `value` is None where it cannot be computed; `low` and `high` (95 % percentile bootstrap over prompts) are None with
    fewer than 10 prompts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

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

    model_config = ConfigDict(frozen=True, extra="forbid")

    axis: str
    """What `at` counts: "depth", "batch" or "threshold"."""
    at: list[float]
    value: list[float | None]
    low: list[float | None]
    high: list[float | None]

    def as_json(self) -> dict[str, Any]:
        """The curve with its axis as a key: `{"depth": [..], "value": [..], "low": [..], "high": [..]}`."""
        return {self.axis: self.at, "value": self.value, "low": self.low, "high": self.high}
