"""Ways to see what a model predicts at every depth: ours, the naive lens, and those of other libraries.

Each library is used as its own documentation has it, on the weights that are already loaded, from token ids to five
signals: top-1 id, top-1 probability, margin, entropy, and divergence to the final distribution. Where a library offers
less, the rest is computed from the log-probabilities that it returns.

Shapes: L blocks, T tokens, V vocabulary.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common import five_signals
from exitbench.models.load import LoadedModel
from exitbench.signals import compute_signals
from exitbench.signals.lazy import LazyDecisions
from exitbench.signals.registry import recorded_names

__all__ = ["WAYS", "Run", "Seen", "Way"]

Seen = dict[str, NDArray[Any]]
"""Signal -> (L + 1, T); or "decision_depth" -> (T,)."""
Run = Callable[[torch.Tensor], Seen]
"""(T,) token ids -> what was seen."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way, and what it must be told apart by."""

    name: str
    prepare: Callable[[LoadedModel], Run]
    """Wrap the model; not timed."""
    sees: str
    package: str | None = None
    """Name of the distribution it needs."""
    note: str | None = None
    """Why its numbers may differ from ours."""


def _forward(loaded: LoadedModel) -> Run:
    def run(ids: torch.Tensor) -> Seen:
        loaded.model(input_ids=ids[None], use_cache=False)
        return {}

    return run


def _naive(loaded: LoadedModel) -> Run:
    def run(ids: torch.Tensor) -> Seen:
        hidden_LTD = loaded.adapter.capture(ids[None])
        final = loaded.adapter.readout(hidden_LTD[-1]).float().log_softmax(-1)
        return _stacked(
            five_signals(loaded.adapter.readout(hidden_TD).float().log_softmax(-1), final) for hidden_TD in hidden_LTD
        )

    return run


def _full(loaded: LoadedModel) -> Run:
    def run(ids: torch.Tensor) -> Seen:
        hidden_LTD = loaded.adapter.capture(ids[None])
        signals = compute_signals(hidden_LTD, ids.roll(-1), loaded.readout)
        return {name: values.T for name, values in signals.items()}

    return run


def _lazy(loaded: LoadedModel) -> Run:
    decide = LazyDecisions(loaded.readout)

    def run(ids: torch.Tensor) -> Seen:
        hidden_LTD = loaded.adapter.capture(ids[None])
        return {"decision_depth": decide(hidden_LTD).decision_depth}

    return run


def _transformer_lens(loaded: LoadedModel) -> Run:
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.tools.analysis import logit_readout

    bridge = TransformerBridge.boot_transformers(
        loaded.source.name,
        hf_model=deepcopy(loaded.model),  # whose attention it changes
        tokenizer=loaded.tokenizer,
        device=loaded.model.device,
        dtype=loaded.model.dtype,
    )
    num_blocks = loaded.shape.num_blocks
    residuals = [f"blocks.{i}.hook_resid_pre" for i in range(num_blocks)] + [f"blocks.{num_blocks - 1}.hook_resid_post"]

    def run(ids: torch.Tensor) -> Seen:
        _, cache = bridge.run_with_cache(ids[None], names_filter=residuals)
        stack_LBTD = cache.accumulated_resid(layer=None)
        final = logit_readout(bridge, stack_LBTD[-1, 0], return_type="log_probs").values

        def seen(residual_TD: torch.Tensor) -> dict[str, torch.Tensor]:
            readout = logit_readout(bridge, residual_TD, return_type="log_probs")
            return five_signals(readout.values, final, entropy=readout.entropy)

        return _stacked(seen(residual_BTD[0]) for residual_BTD in stack_LBTD)

    return run


def _nnterp(loaded: LoadedModel) -> Run:
    import nnsight
    from nnterp import StandardizedTransformer

    model = StandardizedTransformer(deepcopy(loaded.model), tokenizer=loaded.tokenizer)

    def run(ids: torch.Tensor) -> Seen:
        with model.trace(ids[None]):
            states = [model.token_embeddings, *[model.layers_output[i] for i in range(model.num_layers)]]
            final = model.logits[0].float().log_softmax(-1)
            seen = nnsight.save(
                [five_signals(model.project_on_vocab(state)[0].float().log_softmax(-1), final) for state in states]
            )
        return _stacked(seen)

    return run


@contextmanager
def _as_if_absent(package: str) -> Iterator[None]:
    """Make `import package` fail for the time of the context."""
    before = sys.modules.get(package)
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
        if before is not None:
            sys.modules[package] = before


def _tuned_lens(loaded: LoadedModel) -> Run:
    with _as_if_absent("transformer_lens"):  # it asks version 4 of it for a class that was removed, and fails
        from tuned_lens.nn.lenses import LogitLens

    model = loaded.model
    lens = LogitLens.from_model(model)

    def run(ids: torch.Tensor) -> Seen:
        outputs = model(ids[None], output_hidden_states=True, use_cache=False)
        final = outputs.logits[0].float().log_softmax(-1)
        seen = [
            five_signals(lens(hidden_BTD, i)[0].float().log_softmax(-1), final)
            for i, hidden_BTD in enumerate(outputs.hidden_states[:-1])
        ]
        return _stacked([*seen, five_signals(final, final)])

    return run


def _tuned_lens_trajectory(loaded: LoadedModel) -> Run:
    with _as_if_absent("transformer_lens"):
        from tuned_lens.nn.lenses import LogitLens
        from tuned_lens.plotting import PredictionTrajectory

    model = deepcopy(loaded.model).float()
    lens = LogitLens.from_model(model)

    def run(ids: torch.Tensor) -> Seen:
        trajectory = PredictionTrajectory.from_lens_and_model(lens, model, ids.tolist())
        top2 = torch.from_numpy(trajectory.log_probs).topk(2)
        prob2 = top2.values.exp()
        return {
            "top1_id": top2.indices[..., 0].numpy(),
            "top1_prob": trajectory.max_probability().stats,
            "margin": (prob2[..., 0] - prob2[..., 1]).numpy(),
            "entropy": trajectory.entropy().stats,
            "kl_final": trajectory.forward_kl().stats,
        }

    return run


def _stacked(by_depth: Any) -> Seen:
    rows = list(by_depth)
    return {name: np.stack([row[name].numpy(force=True) for row in rows]) for name in rows[0]}


WAYS = {
    way.name: way
    for way in (
        Way(name="forward", prepare=_forward, sees="final logits"),
        Way(name="naive lens", prepare=_naive, sees="5 signals", note="of tied logits, topk takes any"),
        Way(
            name="TransformerLens",
            prepare=_transformer_lens,
            sees="5 signals",
            package="transformer-lens",
            note="attention is forced to eager, so hidden states differ by rounding; norm and head are not folded",
        ),
        Way(
            name="nnterp",
            prepare=_nnterp,
            sees="5 signals",
            package="nnterp",
            note="of tied logits, topk takes any",
        ),
        Way(
            name="tuned-lens, lens alone",
            prepare=_tuned_lens,
            sees="5 signals",
            package="tuned-lens",
            note="of tied logits, topk takes any",
        ),
        Way(
            name="tuned-lens, trajectory",
            prepare=_tuned_lens_trajectory,
            sees="5 signals",
            package="tuned-lens",
            note="its arrays are NumPy's, which have no bfloat16, so the weights are cast to float32",
        ),
        Way(name="exitbench, full", prepare=_full, sees=f"{len(recorded_names())} signals"),
        Way(name="exitbench, lazy", prepare=_lazy, sees="decision depth"),
    )
}
