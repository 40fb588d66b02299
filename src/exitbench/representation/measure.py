"""Pass the sequences behind a trace through the model once more, and measure its hidden states at every depth.

Held at once: the hidden states of one sequence, those of 256 tokens for CKA and of 1,024 for the effective rank in the
model's dtype (0.3 GB in bfloat16 at D = 4096 and L = 32, 1.7 GB at D = 8192 and L = 80), and the sums (1.1 MB and 5.3
MB a document). Everything is added up in float64.

The tokens for the effective rank are drawn from all. Its value grows with their number, so it is the same for all
models that have so many. For CKA, documents are put into groups in a random order, each with the mix of the whole, and
a minibatch is drawn from each group: so minibatches are independent, and resampling them is honest.

Non-goals: readouts (a trace has those), and training dynamics.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from exitbench.errors import ModelError, TraceError
from exitbench.models.load import ProvedModel
from exitbench.progress import SILENT, Progressor
from exitbench.representation.record import Pairs, Representation
from exitbench.representation.similarity import cka_ratio, effective_rank, unbiased_products
from exitbench.representation.sums import Floats, Sums, depth_pairs
from exitbench.stats.bootstrap import MIN_PROMPTS, Bootstrap, Estimate, draw_weights, ratio
from exitbench.stats.figure import Curve
from exitbench.stats.reasoned import with_reasons
from exitbench.trace.record import Stretch
from exitbench.workloads.workload import stratified_order

__all__ = ["represent"]

DRAWS = 2000
RANK_TOKENS = 1024
MINIBATCH_TOKENS = 256
DOCUMENTS_A_MINIBATCH = 6
"""So that few of a minibatch's pairs of tokens lie in one document."""
MOST_MINIBATCHES = 64
LEAST_MINIBATCH = 4
"""Tokens below which the unbiased HSIC is undefined."""


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Which sequence is passed when, and which of its tokens are drawn; tokens are numbered in that order."""

    groups: list[list[tuple[int, Stretch]]]
    """Sequences of each minibatch, with the number of their document, 0..P-1."""
    categories: list[str]
    """(P,) of each document."""
    rank_tokens: NDArray[np.int64]
    """Sorted numbers of the tokens for the effective rank."""
    minibatches: list[NDArray[np.int64]]
    """Sorted numbers of the tokens of each minibatch."""


def represent(
    loaded: ProvedModel, stretches: Iterable[Stretch], *, seed: int = 0, progress: Progressor = SILENT
) -> Representation:
    """Measure how hidden states change with depth.

    Args:
        loaded: a validated model.
        stretches: sequences; their tokens from the first row on count, but for the last one of each.
        seed: of the resamples and of the tokens that are drawn; equal seeds give equal records.
        progress: where to show a bar.

    Raises:
        TraceError: no token counts.
        ModelError: a hidden state is not finite.
    """
    of_resamples, of_tokens = np.random.SeedSequence(seed).spawn(2)
    plan = _planned(list(stretches), np.random.default_rng(of_tokens))
    num_depths, hidden_size = loaded.adapter.num_blocks + 1, loaded.adapter.hidden_size
    sums = Sums(len(plan.categories), num_depths, hidden_size)
    for_rank, products, number = [], [], 0
    with progress.bar(f"Hidden states of {loaded.name}", sum(map(len, plan.groups))) as advance:
        for group, minibatch in zip(plan.groups, plan.minibatches, strict=True):
            for_cka = []
            for document, stretch in group:
                hidden_LRD = _capture(loaded, stretch)
                _add(sums, document, hidden_LRD, stretch)
                end = number + hidden_LRD.shape[1]
                for_rank.append(hidden_LRD[:, _between(plan.rank_tokens, number, end)])
                for_cka.append(hidden_LRD[:, _between(minibatch, number, end)])
                number = end
                advance(1)
            if len(minibatch) >= LEAST_MINIBATCH:
                products.append(unbiased_products(_by_depth(for_cka)))
    ranks = np.array([effective_rank(hidden_ND) for hidden_ND in _by_depth(for_rank)])
    rng = np.random.default_rng(of_resamples)
    bootstrap = Bootstrap(weights=draw_weights(plan.categories, draws=DRAWS, rng=rng))
    weights = draw_weights([""] * len(products), draws=DRAWS, rng=rng)
    num_cka = len(plan.minibatches[0])
    outcomes = _means(sums, bootstrap) | {
        "effective_rank": _without_interval(ranks),
        "cka": _cka(products, Bootstrap(weights=weights), num_cka),
    }
    return Representation.model_validate(
        with_reasons(outcomes)
        | {
            "seed": seed,
            "draws": DRAWS,
            "n_tokens": number,
            "n_prompts": len(plan.categories),
            "n_sequences": sum(map(len, plan.groups)),
            "hidden_size": hidden_size,
            "n_rank_tokens": len(plan.rank_tokens),
            "minibatch_tokens": num_cka,
            "n_minibatches": len(products),
            "no_interval": _no_interval(len(plan.categories), len(products)),
        }
    )


def _planned(stretches: Sequence[Stretch], rng: np.random.Generator) -> _Plan:
    counted = [stretch for stretch in stretches if _num_tokens(stretch) > 0]
    if not counted:
        raise TraceError("no token of the given sequences counts; give some with at least one next token")
    category_of = {stretch.sample: stretch.category for stretch in counted}
    documents = {sample: document for document, sample in enumerate(category_of)}
    sequences: list[list[Stretch]] = [[] for _ in documents]
    for stretch in counted:
        sequences[documents[stretch.sample]].append(stretch)
    order = stratified_order(list(category_of.values()), int(rng.integers(2**31)))
    num_groups = min(MOST_MINIBATCHES, max(1, len(documents) // DOCUMENTS_A_MINIBATCH))
    groups = [
        [(document, stretch) for document in part.tolist() for stretch in sequences[document]]
        for part in np.array_split(order, num_groups)
    ]
    sizes = [sum(_num_tokens(stretch) for _, stretch in group) for group in groups]
    size = min(MINIBATCH_TOKENS, *sizes)
    starts = np.cumsum([0, *sizes[:-1]])
    total = sum(sizes)
    return _Plan(
        groups=groups,
        categories=list(category_of.values()),
        rank_tokens=np.sort(rng.choice(total, min(RANK_TOKENS, total), replace=False)),
        minibatches=[
            np.sort(start + rng.choice(n, size, replace=False)) for start, n in zip(starts, sizes, strict=True)
        ],
    )


def _num_tokens(stretch: Stretch) -> int:
    return len(stretch.ids) - 1 - stretch.first_row


def _capture(loaded: ProvedModel, stretch: Stretch) -> torch.Tensor:
    """(L + 1, R, D) hidden states of the tokens that count, in main memory."""
    ids = torch.tensor([stretch.ids], device=loaded.model.device)
    return loaded.adapter.capture(ids, slice(stretch.first_row, len(stretch.ids) - 1)).cpu()


def _add(sums: Sums, document: int, hidden_LRD: torch.Tensor, stretch: Stretch) -> None:
    units, last = None, []
    for depth, hidden_RD in enumerate(hidden_LRD):
        if not hidden_RD.isfinite().all():
            raise ModelError(
                f"hidden states are not finite at depth {depth} of sample {stretch.sample}, turn {stretch.turn + 1}; "
                "load the model with another --dtype"
            )
        units = sums.add_depth(document, depth, hidden_RD.double().numpy(), units)
        last.append(units[-1])
    sums.add_sequence(document, np.stack(last))


def _between(chosen: NDArray[np.int64], start: int, end: int) -> torch.Tensor:
    """Places of the chosen tokens among those from `start` to before `end`."""
    low, high = np.searchsorted(chosen, (start, end))
    return torch.from_numpy(chosen[low:high] - start)


def _by_depth(parts: Sequence[torch.Tensor]) -> Iterator[Floats]:
    """L + 1 arrays (N, D) of all tokens of the parts (L + 1, R, D), one after the other."""
    return (torch.cat([part[depth] for part in parts]).double().numpy() for depth in range(len(parts[0])))


def _means(sums: Sums, bootstrap: Bootstrap) -> dict[str, Curve | Pairs | str]:
    cosine, norm = sums.cosine_previous(bootstrap), sums.residual_norm(bootstrap)
    every = range(len(norm.value))
    growth = norm.map(lambda mean: ratio(mean[..., 1:], mean[..., :-1]))
    several = len(sums.tokens) > 1
    return {
        "cosine_previous": cosine.curve("depth", every[1:]),
        "block_influence": cosine.map(lambda mean: 1 - mean).curve("depth", every[1:]),
        "residual_norm": norm.curve("depth", every),
        "norm_growth": growth.curve("depth", every[1:]),
        "anisotropy": sums.anisotropy(bootstrap).curve("depth", every)
        if several
        else "needs tokens of at least two documents",
        "angular_distance": _pairs(sums.angular_distance(bootstrap), len(every)),
    }


def _cka(products: Sequence[Floats], bootstrap: Bootstrap, num_tokens: int) -> Pairs | str:
    if not products:
        return f"needs minibatches of at least {LEAST_MINIBATCH} tokens, got {num_tokens}"
    stacked = np.stack(products)
    first, second = depth_pairs(stacked.shape[1])
    counts = np.full(len(products), float(num_tokens))
    estimate = bootstrap.estimate(lambda weights: cka_ratio(weights, stacked, first, second), counts)
    return _pairs(estimate, stacked.shape[1])


def _pairs(estimate: Estimate, num_depths: int) -> Pairs:
    first, second = depth_pairs(num_depths)
    column = estimate.curve("pair", range(len(first)))
    return Pairs(
        depth=first.tolist(), other_depth=second.tolist(), value=column.value, low=column.low, high=column.high
    )


def _without_interval(values: Floats) -> Curve:
    missing: list[float | None] = [None] * len(values)
    plain = [float(value) if np.isfinite(value) else None for value in values]
    return Curve(axis="depth", at=list(range(len(values))), value=plain, low=missing, high=missing)


def _no_interval(num_documents: int, num_minibatches: int) -> dict[str, str]:
    reasons = {"effective_rank": "a resample repeats tokens, and so has a lower rank"}
    if num_documents < MIN_PROMPTS:
        by_document = ("cosine_previous", "block_influence", "residual_norm", "norm_growth", "anisotropy")
        reason = f"needs at least {MIN_PROMPTS} documents, got {num_documents}"
        reasons |= dict.fromkeys((*by_document, "angular_distance"), reason)
    if num_minibatches < MIN_PROMPTS:
        reasons["cka"] = (
            f"needs at least {MIN_PROMPTS} minibatches of {DOCUMENTS_A_MINIBATCH} documents, got {num_minibatches}"
        )
    return reasons
