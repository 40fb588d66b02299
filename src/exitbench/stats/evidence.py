"""What one test says of one effect: the effect, its interval, a p-value, and what it rests on."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator
from scipy.stats import t

__all__ = ["Evidence", "TestName", "by_t"]

TestName = Literal["permutation", "t", "clustered"]


class Evidence(BaseModel):
    """The outcome of one test, or why it could not be made."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    test: TestName
    value: float | None = None
    """The effect as this test estimates it."""
    low: float | None = None
    """Of its 95 % interval."""
    high: float | None = None
    no_interval: str | None = None
    """Why an effect has none."""
    p: float | None = None
    """Two-sided, for one comparison alone."""
    floor: float | None = None
    """Smallest p-value that a permutation test of so few models can give."""
    exact: bool | None = None
    """Whether every arrangement was looked at, and not a sample of them."""
    df: float | None = None
    """Degrees of freedom of a t-test."""
    se: float | None = None
    """Standard error of the effect."""
    rests_on: str
    """What must hold for the p-value to be right."""
    reason: str | None = None
    """Why there is no p-value."""

    @model_validator(mode="after")
    def _a_p_or_a_reason(self) -> Self:
        if (self.p is None) != (self.reason is not None):
            raise ValueError(f"a test has a p-value or a reason why not, got {self.p} and {self.reason!r}")
        return self


def by_t(test: TestName, value: float, se: float, df: float, rests_on: str) -> Evidence:
    """What a t-test says of an effect with a standard error `se` above 0, at `df` degrees of freedom."""
    reach = float(t.ppf(0.975, df)) * se
    return Evidence(
        test=test,
        value=value,
        low=value - reach,
        high=value + reach,
        p=float(2 * t.sf(abs(value) / se, df)),
        df=df,
        se=se,
        rests_on=rests_on,
    )
