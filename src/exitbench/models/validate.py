"""The proof, made on every load, that our view of a model is right. A model without it is refused.

Four checks on a short probe sequence of random tokens, of which a model must pass the first three:

- readout: the readout of the hidden state at depth L gives the model's own logits. Catches a final norm applied twice,
  states taken at the wrong place, a forgotten soft-cap.
- chain: running the blocks one by one from the embeddings gives the hidden state that the model itself reaches.
- cache: the logits from which the model writes an answer, one token at a time with its cache, are those of one pass
  over prompt and answer. Answers are made the one way and measured the other.
- padding: the same answer after masked positions. Where it differs, prompts must not be padded into batches.

Errors are root mean squares. Tolerance is the model's own rounding error at its dtype, measured: the same pass with
what every operation in the blocks returns changed by random relative errors of one unit in the last place (in the last
block and what follows it, for the readout), times `SLACK`. Tiny models of 166 types were seen to differ by up to 0.3
times the tolerance in float32, wrong views by 1e5 times. In bfloat16 a model's own noise can reach a fifth of the
spread of its logits (Gemma-3-270M), and the proof is no sharper than that: check in float32 when in doubt. Models kept
in float64 are jittered as float32: many norms compute in float32 whatever the model's dtype.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from exitbench.errors import ValidationError
from exitbench.models.adapter import ModelAdapter, Pass
from exitbench.models.discover import probe_ids

__all__ = ["SLACK", "Check", "require_valid", "validate"]

SLACK = 4.0
_NEW_TOKENS, _PADDING = 5, 7
_aten: Any = torch.ops.aten
# Not arithmetic, and what is moved may be weights: those that wait elsewhere are brought in while a block runs.
_MOVES = (_aten._to_copy, _aten.copy_, _aten.clone)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison of our view with the model itself."""

    name: str
    claim: str
    error: float
    """Root mean square difference; infinite where shapes differ or values are not finite."""
    tolerance: float
    required: bool = True
    """Whether a model that fails is refused."""

    @property
    def passed(self) -> bool:
        """Whether the difference is within the model's own rounding error; never where that is unknown."""
        return self.error <= self.tolerance < math.inf


class _RoundingNoise(TorchDispatchMode):
    """Changes what every operation returns by random relative errors of one unit in the last place, while `on`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.on = False
        self._generator = torch.Generator().manual_seed(0)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if not self.on or func.is_view or func._overloadpacket in _MOVES:
            return output
        # A rounding error is what the values got, whoever holds them: written in place.
        for values in tree_leaves(output):
            if isinstance(values, torch.Tensor) and values.is_floating_point():
                values.copy_(self._jittered(values))
        return output

    def _jittered(self, values: torch.Tensor) -> torch.Tensor:
        limits = torch.finfo(values.dtype)
        unit = max(limits.eps, torch.finfo(torch.float32).eps)
        noise = (2 * torch.rand(values.shape, generator=self._generator, dtype=torch.float64) - 1) * unit
        jittered = (values.double() * (1 + noise.to(values.device))).to(values.dtype)
        # Small whole numbers are zeros and counts of tokens, the largest stand for infinity in masks: all are exact.
        size = values.abs()
        counts = 2**5 if limits.bits < 32 else 2**12
        exact = ((values == values.round()) & (size <= counts)) | (size > limits.max / 4) | values.isnan()
        return torch.where(exact, values, jittered)


@contextmanager
def _rounding_noise(adapter: ModelAdapter, *, first_depth: int, last_depth: int | None) -> Iterator[None]:
    """Round anew in the blocks after `first_depth`, up to `last_depth`; None for what follows the blocks too."""
    noise = _RoundingNoise()

    def entering(index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        noise.on = noise.on or index == first_depth

    def leaving(index: int, _: Any) -> None:
        noise.on = noise.on and index + 1 != last_depth

    with noise, adapter.watched(entering, leaving):
        yield


def _difference(a: torch.Tensor, b: torch.Tensor) -> float:
    if a.shape != b.shape:
        return math.inf
    difference = (a.double() - b.double().to(a.device)).square().mean().sqrt().item()
    return difference if math.isfinite(difference) else math.inf


def _chained(adapter: ModelAdapter, probe: Pass) -> torch.Tensor:
    """(T, D) hidden state after running the blocks one by one on the first one's input."""
    paths = adapter.paths
    hidden = paths.ports[0].taken(*probe.calls[0])
    for block, port, scale, (args, kwargs) in zip(adapter.blocks, paths.ports, paths.scales, probe.calls, strict=True):
        args, kwargs = port.given(args, kwargs, hidden)
        hidden = port.left(block(*args, **kwargs)) * scale
    return paths.layout.to_rows(hidden)[0]


def _require_finite(adapter: ModelAdapter, ids: torch.Tensor) -> None:
    """Refuse a model whose hidden states overflow.

    Raises:
        ValidationError: names the first depth with a value that is not finite.
    """
    finite = adapter.capture(ids).isfinite().flatten(1).all(1)
    if not finite.all():
        depth = int(finite.int().argmin())
        dtype = str(adapter.model.dtype).removeprefix("torch.")
        raise ValidationError(
            f"{type(adapter.model).__name__} is refused: its hidden state in {dtype} is not finite at depth {depth} of "
            f"{adapter.num_blocks}; try --dtype {'float32' if dtype != 'float16' else 'bfloat16'}"
        )


@torch.inference_mode()
def validate(adapter: ModelAdapter) -> list[Check]:
    """Compare the adapter's view with the model itself.

    Returns:
        One entry a check, passed or not; raising is the caller's part (see `require_valid`).

    Raises:
        ValidationError: hidden states that are not finite, with their depth.
    """
    prompt = probe_ids(adapter.model)
    _require_finite(adapter, prompt)
    ids, written = adapter.answer(prompt, num_tokens=_NEW_TOKENS)
    probe = adapter.record(ids)
    depth = adapter.num_blocks
    with _rounding_noise(adapter, first_depth=0, last_depth=depth):
        noisy = adapter.record(ids)
    with _rounding_noise(adapter, first_depth=depth - 1, last_depth=None):
        noisy_at_end = adapter.record(ids)
    last_hidden = adapter.capture(ids)[-1]
    first = prompt.shape[1] - 1
    padded_ids, padded = adapter.answer(prompt, num_tokens=_NEW_TOKENS, padding=_PADDING)
    # Behind a near tie that fell the other way another answer goes on: it is compared up to there.
    alike = 1 + int((padded_ids == ids)[0, first + 1 :].int().cumprod(0).sum())
    rounding = SLACK * _difference(noisy.logits[first:], probe.logits[first:])
    return [
        Check(
            name="readout",
            claim="readout of the hidden state at depth L equals the model's logits",
            error=_difference(adapter.readout(last_hidden), probe.logits),
            tolerance=SLACK * _difference(noisy_at_end.logits, probe.logits),
        ),
        Check(
            name="chain",
            claim="the blocks run one by one reach the model's last hidden state",
            error=_difference(_chained(adapter, probe), probe.hidden),
            tolerance=SLACK * _difference(noisy.hidden, probe.hidden),
        ),
        Check(
            name="cache",
            claim="an answer written token by token with the cache has the logits of one pass over it",
            error=_difference(written, probe.logits[first:]),
            tolerance=rounding,
        ),
        Check(
            name="padding",
            claim="an answer is the same after masked positions, as in a batch with longer prompts",
            error=_difference(padded[:alike], written[:alike]),
            tolerance=rounding,
            required=False,
        ),
    ]


def require_valid(adapter: ModelAdapter, checks: list[Check]) -> None:
    """Refuse a model that failed a check which it has to pass.

    Raises:
        ValidationError: names the check, the error and the tolerance.
    """
    for check in checks:
        if check.required and not check.passed:
            raise ValidationError(
                f"{type(adapter.model).__name__} is refused: '{check.claim}' does not hold (difference "
                f"{check.error:.3g}, the model's own rounding error allows {check.tolerance:.3g}); "
                "run 'exitbench check' for the full report"
            )
