"""LayerSkip's recipe (arXiv 2404.16710): stochastic depth that grows with depth, and a loss at every depth.

Blocks are watched and skipped by hooks, so that any model runs whose blocks are the entries of `model.model.layers` and
take the hidden state first (all of Llama's kin). A skipped block is computed and its result dropped, one row of the
batch at a time: simple, and the kept rows see the same numbers as without. Nothing is rescaled, as in the paper.

Non-goals: speed of training, other families of models.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.nn import functional
from transformers import PreTrainedModel

__all__ = ["PLAIN", "Recipe", "active_depths", "dropout_rates", "exit_weights", "losses_by_depth", "watched_blocks"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is added to plain training; the defaults add nothing."""

    max_dropout: float = 0.0
    """Rate at which the last block is skipped, at the end of the curriculum; shallower ones less, the first never."""
    dropout_curriculum: bool = False
    """Let the rates grow over training, from none; for training from scratch."""
    exit_scale: float | None = None
    """How much the losses of shallower depths weigh, in 0..1; None for the loss at the last depth alone."""
    rotation: int = 1
    """Every how many steps a depth has its turn in the loss; 1 for all depths at every step."""


PLAIN = Recipe()


def dropout_rates(num_blocks: int, recipe: Recipe, progress: float) -> list[float]:
    """Rate of skipping for each block: `max_dropout * (exp(l ln 2 / (L - 1)) - 1)` for l = 0..L-1.

    Args:
        num_blocks: L.
        recipe: what is trained.
        progress: share of the steps that are done, 0..1; with the curriculum, rates carry exp(progress ln 2) - 1.
    """
    now = math.expm1(progress * math.log(2)) if recipe.dropout_curriculum else 1.0
    last = max(num_blocks - 1, 1)
    return [recipe.max_dropout * now * math.expm1(block * math.log(2) / last) for block in range(num_blocks)]


def active_depths(num_blocks: int, recipe: Recipe, step: int) -> list[int]:
    """Depths with a loss at a step: the last always, of the others each `rotation`-th in turn."""
    if recipe.exit_scale is None:
        return [num_blocks]
    early = [depth for depth in range(1, num_blocks) if (depth - 1) % recipe.rotation == step % recipe.rotation]
    return [*early, num_blocks]


def exit_weights(num_blocks: int, recipe: Recipe, depths: list[int]) -> dict[int, float]:
    """Weight of the loss at each of `depths`, 1 together.

    Depth d < L weighs `exit_scale * (0 + 1 + .. + d)`, and depth L weighs `L - 1` and the same sum up to L - 1: the
    paper's e(l), where the first block counts as 1 and not as 0, so that no depth is left without a loss.
    """
    scale = recipe.exit_scale or 0.0
    raw = {depth: scale * depth * (depth + 1) / 2 for depth in depths if depth < num_blocks}
    raw[num_blocks] = num_blocks - 1 + scale * (num_blocks - 1) * num_blocks / 2
    total = sum(raw.values())
    return {depth: weight / total for depth, weight in raw.items()}


@contextmanager
def watched_blocks(model: PreTrainedModel, kept_LB: torch.Tensor | None) -> Iterator[list[torch.Tensor]]:
    """While open, a pass of the model appends the hidden state after each block: (B, T, D), L of them.

    Args:
        model: with blocks at `model.model.layers`.
        kept_LB: (L, B) bool, whether a block is applied to a row of the batch; None for all.
    """
    states: list[torch.Tensor] = []

    def hook(block: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        if kept_LB is not None:
            output = torch.where(kept_LB[len(states)][:, None, None], output, inputs[0])
        states.append(output)
        return output

    handles = [block.register_forward_hook(hook) for block in model.model.layers]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()


def losses_by_depth(
    model: PreTrainedModel, rows_BT: torch.Tensor, depths: list[int], kept_LB: torch.Tensor | None = None
) -> dict[int, torch.Tensor]:
    """Mean cross-entropy of the next token at each of `depths`, in nats, all through the model's own norm and head.

    Args:
        model: as for `watched_blocks`.
        rows_BT: (B, T) token ids; the last of a row is only predicted.
        depths: from 1 to L.
        kept_LB: as for `watched_blocks`.
    """
    with watched_blocks(model, kept_LB) as states:
        model.model(input_ids=rows_BT[:, :-1], use_cache=False)
    targets = rows_BT[:, 1:].reshape(-1)
    losses = {}
    for depth in depths:
        logits = model.lm_head(model.model.norm(states[depth - 1]))
        losses[depth] = functional.cross_entropy(logits.float().flatten(0, 1), targets)
    return losses
