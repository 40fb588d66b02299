"""Sizes of a model, counted on the loaded weights, and the anatomy of its blocks: what every cost is reckoned from."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["COMPLETION_FIELDS", "BlockShape", "Experts", "MixerKind", "ModelKind", "ModelShape", "ParameterCount"]

ModelKind = Literal["dense", "moe", "ssm", "hybrid"]
MixerKind = Literal["full attention", "sliding attention", "linear attention", "SSM", "convolution"]


COMPLETION_FIELDS = (
    "completion_flops",
    "completion_flops_per_position",
    "completion_weight_bytes",
    "completion_reason",
)
"""Fields of a block on what it costs when it is skipped; traces older than they are read as None."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Experts(_Frozen):
    """A mixture of experts in a block; shared experts are not among them."""

    total: int
    active: float
    """How many of them a token goes through; the mean where that is no fixed number."""


class BlockShape(_Frozen):
    """What one block is and what one token costs in it. A module that runs at several depths counts at each."""

    mixers: tuple[MixerKind, ...]
    """What carries information from token to token; empty for a block that is an MLP only."""
    feed_forward: bool
    """Whether it holds an MLP, or experts, beside the mixers."""
    experts: Experts | None
    parameters: int
    active_parameters: int
    """Parameters that one token is multiplied by or added to: those of its experts, and all that are no experts'."""
    product_weights: int
    """Active matrix-product weights: multiply-adds a token with weights as one operand; 2 FLOPs each."""
    fixed_flops: int | None
    """FLOPs of a decoded token whatever the context: products with weights, reading and updating a state. None, as the
    next one, where the model has no cache and every token runs all positions again."""
    flops_per_position: int | None
    """FLOPs of a decoded token for each position it attends to, itself included; with them all products of weights
    with what is cached, as in latent attention."""
    window: int | None
    """Largest number of positions attended to, itself included; None without a limit."""
    weight_bytes: int
    """Bytes of the active parameters, read for each decoded token at batch 1."""
    state_bytes: int
    """Bytes of the state that does not grow with the context, read and written for each decoded token."""
    state_bytes_per_position: int
    """Bytes of the state that each position adds, until the window is full: keys and values."""
    completion_flops: int | None = None
    """FLOPs to give this block, when a token skips it, the state that later tokens need: products with the weights that
    state depends on, and its update. 0 for a block that keeps none; None where it could not be observed, as in traces
    older than this field."""
    completion_flops_per_position: int | None = None
    """The same for each position attended to: 0 unless attention feeds another state of the same block."""
    completion_weight_bytes: int | None = None
    """Bytes of the parameters that state depends on."""
    completion_reason: str | None = None
    """Why the three above are None."""

    @property
    def kind(self) -> str:
        """The block in words, e.g. "sliding attention (512) + MoE (8 of 64)"."""
        window = f" ({self.window})" if self.window is not None else ""
        parts = [f"{mixer}{window if mixer == 'sliding attention' else ''}" for mixer in self.mixers]
        if self.experts is not None:
            parts.append(f"MoE ({self.experts.active:.3g} of {self.experts.total})")
        elif self.feed_forward:
            parts.append("MLP")
        return " + ".join(parts)

    def decode_flops(self, context: int) -> int | None:
        """FLOPs of decoding one token at a context of `context` positions, the token included; None without a cache."""
        if self.fixed_flops is None or self.flops_per_position is None:
            return None
        attended = context if self.window is None else min(context, self.window)
        return self.fixed_flops + self.flops_per_position * attended


class ParameterCount(_Frozen):
    """Parameters of a model by where they are used. A tensor used in two places counts in the first."""

    embedding: int
    """Used before the first block: token and position embeddings, their norms and projections."""
    blocks: int
    output: int
    """Used after the last block: norms, projections, the head if it is not tied to the embedding."""
    idle: int
    """Not used when text is read: towers for images or audio, blocks for predicting several tokens."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.embedding + self.blocks + self.output + self.idle


class ModelShape(_Frozen):
    """Counted sizes; part of every artefact. Imports no torch, so that results can be read without it."""

    hidden_size: int
    vocab_size: int
    num_parameters: int
    parameters: ParameterCount
    blocks: tuple[BlockShape, ...] = Field(min_length=1)
    """In the order in which they run."""
    block_costs: tuple[float, ...]
    """c_1 .. c_L: each block's share of all blocks' active matrix-product weights; sums to 1."""
    head_weights: int
    """Matrix-product weights of one readout."""
    head_weight_bytes: int | None = None
    """Bytes of them; None in traces older than this field."""
    rotary: dict[str, float | None] = Field(default_factory=dict)
    """Rotary base per buffer in force; None where the frequencies are no plain power; empty without rotary."""

    @property
    def num_blocks(self) -> int:
        """L, the number of blocks that really run."""
        return len(self.blocks)

    @property
    def head_bytes(self) -> float:
        """Bytes read for one readout; of an old trace, with as many bytes a number as its blocks have."""
        if self.head_weight_bytes is not None:
            return float(self.head_weight_bytes)
        active = sum(block.active_parameters for block in self.blocks)
        return self.head_weights * sum(block.weight_bytes for block in self.blocks) / active

    @property
    def kind(self) -> ModelKind | None:
        """All attention ("dense", "moe" with experts), all recurrence ("ssm"), or both ("hybrid", experts or not)."""
        mixers = {mixer for block in self.blocks for mixer in block.mixers}
        attends = not mixers.isdisjoint({"full attention", "sliding attention"})
        if attends and mixers <= {"full attention", "sliding attention"}:
            return "moe" if any(block.experts for block in self.blocks) else "dense"
        return ("hybrid" if attends else "ssm") if mixers else None

    @property
    def active_parameters(self) -> int | None:
        """Parameters that a token passes through, embeddings included; None where blocks share weights."""
        if sum(block.parameters for block in self.blocks) != self.parameters.blocks:
            return None
        active = sum(block.active_parameters for block in self.blocks)
        return self.parameters.embedding + active + self.parameters.output
