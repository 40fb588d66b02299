"""What machines can do: peaks from data sheets, or times measured on a machine with `exitbench profile`.

A roofline profile holds two figures of a machine and fits every model; it is a bound that no real program reaches. A
measured profile holds the times of one model's parts on one machine, dtype and context.

Non-goals: networks between devices, and memory sizes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from exitbench.errors import CostError, UnknownNameError, first_problem
from exitbench.files import write_json

__all__ = ["PROFILES", "MeasuredProfile", "Profile", "RooflineProfile", "TimedPart", "load_profile", "write_profile"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class RooflineProfile(_Frozen):
    """Peaks of one machine; a unit of work takes the longer of FLOPs / peak and bytes / bandwidth."""

    kind: Literal["roofline"] = "roofline"
    name: str
    source: str
    """Where the figures come from: title and date of the vendor's sheet, or how they were reckoned."""
    unverified: tuple[str, ...] = ()
    """Which of them were not compared with a second source."""
    peak_flops_per_s: dict[str, PositiveFloat] = Field(min_length=1)
    """Dense matrix products, by dtype of the weights."""
    bandwidth_bytes_per_s: PositiveFloat
    """Of the main memory of the device."""


class TimedPart(_Frozen):
    """Seconds that a part took with so many rows, over repeated calls."""

    rows: tuple[int, ...] = Field(min_length=1)
    """Rising."""
    median_s: tuple[NonNegativeFloat, ...]
    """One for each of `rows`, as the two that follow."""
    q10_s: tuple[NonNegativeFloat, ...]
    q90_s: tuple[NonNegativeFloat, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not len(self.rows) == len(self.median_s) == len(self.q10_s) == len(self.q90_s):
            raise ValueError("one time for each number of rows is needed")
        if list(self.rows) != sorted(set(self.rows)) or self.rows[0] < 1:
            raise ValueError("rows have to rise from at least 1")
        return self

    def at(self, rows: int) -> float:
        """The median at a number of rows; between two that were measured, on the line between them.

        Raises:
            CostError: more or fewer rows than were measured.
        """
        if not self.rows[0] <= rows <= self.rows[-1]:
            raise CostError(
                f"the profile has times for {self.rows[0]} to {self.rows[-1]} rows, got {rows}; measure more with "
                "'exitbench profile --batches'"
            )
        above = next(i for i, measured in enumerate(self.rows) if measured >= rows)
        if self.rows[above] == rows:
            return self.median_s[above]
        share = (rows - self.rows[above - 1]) / (self.rows[above] - self.rows[above - 1])
        return self.median_s[above - 1] * (1 - share) + self.median_s[above] * share


class MeasuredProfile(_Frozen):
    """Times of one model's parts on one machine."""

    kind: Literal["measured"] = "measured"
    name: str
    source: str
    """The command that measured it, and when."""
    model: str
    weights_sha256: str
    dtype: str
    device: str
    attention: str
    context: int
    """Positions in the cache while blocks were timed."""
    num_repeats: int
    blocks: tuple[TimedPart, ...] = Field(min_length=1)
    """One a block; rows are the new tokens of one sequence, decoded as a chunk with the cache."""
    steps: TimedPart
    """Whole steps, head included, for the same chunks, without anything between the blocks."""
    readout: TimedPart
    """The model's own code after the last block, for the same chunks."""
    translator: TimedPart
    """One D x D product in the same dtype."""
    completion: tuple[TimedPart, ...] | None
    """One a block: products of the counted sizes, in place of a real completion, which they bound from below; None
    where the sizes are not known."""
    libraries: dict[str, str]
    environment: dict[str, Any]

    @property
    def accounted(self) -> tuple[float, ...]:
        """The sum of blocks and readout over the whole step, for each chunk size.

        Near 1 if the parts tell the whole; less for what happens before the first block, more for what clocks cost.
        """
        return tuple(
            (sum(block.at(rows) for block in self.blocks) + self.readout.at(rows)) / self.steps.at(rows)
            for rows in self.steps.rows
        )


Profile = RooflineProfile | MeasuredProfile
_READER: TypeAdapter[Profile] = TypeAdapter(Annotated[Profile, Field(discriminator="kind")])

_DENSE = "the sheet states twice the peak, with sparsity; here without"
PROFILES: Mapping[str, RooflineProfile] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            RooflineProfile(
                name="a100-80gb-sxm",
                source="NVIDIA A100 Tensor Core GPU datasheet (2021), column A100 80GB SXM",
                unverified=("year of the sheet",),
                peak_flops_per_s={"bfloat16": 312e12, "float16": 312e12, "float32": 19.5e12},
                bandwidth_bytes_per_s=2.039e12,
            ),
            RooflineProfile(
                name="h100-sxm",
                source=f"NVIDIA H100 Tensor Core GPU datasheet (2023), column H100 SXM; {_DENSE}",
                unverified=("year of the sheet",),
                peak_flops_per_s={"bfloat16": 989e12, "float16": 989e12, "float32": 67e12},
                bandwidth_bytes_per_s=3.35e12,
            ),
            RooflineProfile(
                name="h200-sxm",
                source=f"NVIDIA H200 Tensor Core GPU datasheet (2023), column H200 SXM; {_DENSE}",
                unverified=("year of the sheet", "bfloat16", "float16", "float32"),
                peak_flops_per_s={"bfloat16": 989e12, "float16": 989e12, "float32": 67e12},
                bandwidth_bytes_per_s=4.8e12,
            ),
            RooflineProfile(
                name="laptop-ryzen-7840u",
                source=(
                    "reckoned for an AMD Ryzen 7 7840U (8 cores, Zen 4, 2023): base clock 3.3 GHz x 8 cores x 32 FLOP "
                    "a cycle (two 256-bit multiply-adds); LPDDR5X-7500 on 128 bits"
                ),
                unverified=("FLOP a cycle", "width of the memory bus"),
                peak_flops_per_s={"float32": 844.8e9},
                bandwidth_bytes_per_s=120e9,
            ),
        )
    }
)
"""Machines by name. Figures were compared with reprints of the vendors' sheets, but for those `unverified`."""


def load_profile(name: str) -> Profile:
    """A profile by its name, or from a JSON file.

    Raises:
        UnknownNameError: neither a name nor a file.
        CostError: a file that holds no profile.
    """
    if name in PROFILES:
        return PROFILES[name]
    path = Path(name)
    if not path.is_file():
        raise UnknownNameError(
            f"unknown profile {name!r}; expected {', '.join(PROFILES)}, or a file made with 'exitbench profile'"
        )
    try:
        return _READER.validate_python(json.loads(path.read_text(encoding="utf-8")), strict=False)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CostError(f"{path} is no JSON ({error}); give a file made with 'exitbench profile'") from error
    except ValidationError as error:
        problem = first_problem(error, "the file")
        raise CostError(f"{path} is no profile: {problem}; make one with 'exitbench profile'") from error


def write_profile(profile: Profile, path: Path) -> None:
    """Write a profile as JSON, atomically."""
    write_json(path, profile.model_dump(mode="json"))
