"""Sizes of a model, counted on the loaded weights, and its block costs."""

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ModelShape"]


class ModelShape(BaseModel):
    """Counted sizes; part of every artefact. Imports no torch, so that results can be read without it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_blocks: int = Field(ge=1)
    """L, the number of blocks that really run."""
    hidden_size: int
    vocab_size: int
    num_parameters: int
    block_costs: tuple[float, ...]
    """c_1 .. c_L: each block's share of all blocks' active matrix-product weights; sums to 1."""
    block_weights: tuple[int, ...]
    """Active matrix-product weights of each block (2 FLOPs each a token)."""
    head_weights: int
    """Matrix-product weights of one readout."""
    rotary: dict[str, float | None] = Field(default_factory=dict)
    """Rotary base per buffer in force; None where the frequencies are no plain power; empty without rotary."""
