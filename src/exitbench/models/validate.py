"""The proof, made on every load, that our view of a model is right. A model without it is refused.

Three checks on a short probe sequence of random tokens:

- readout: the readout of the hidden state at depth L gives the model's own logits. Catches a final norm applied twice,
  states taken at the wrong place, a forgotten soft-cap.
- chain: running the blocks one by one from the embeddings gives the hidden state that the model itself reaches.
- cache: a pass in two halves with a key-value cache gives the logits of the pass in one go.

Errors are root mean squares. Tolerance is the model's own rounding error at its dtype, measured: the same pass with
every block's output changed by random relative errors of one unit in the last place (the last block's only, for the
readout), times `SLACK` because the operations inside a block round too. Right models were seen to differ by 0.2 to 1.9
times the measured error, wrong ones by 1e5 times in float32. In bfloat16 a model's own noise can reach a fifth of the
spread of its logits (Gemma-3-270M), and the proof is no sharper than that: check in float32 when in doubt. Models kept
in float64 are jittered as float32: many norms compute in float32 whatever the model's dtype.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from exitbench.errors import ValidationError
from exitbench.models.adapter import ModelAdapter
from exitbench.models.discover import hidden_of_input, hidden_of_output, probe_ids

__all__ = ["SLACK", "Check", "require_valid", "validate"]

SLACK = 4.0


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison of our view with the model itself."""

    name: str
    claim: str
    error: float
    """Root mean square difference; infinite where shapes differ or values are not finite."""
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the difference is within the model's own rounding error; never where that is unknown."""
        return self.error <= self.tolerance < math.inf


@dataclass(frozen=True)
class _Probe:
    """A plain pass over the probe sequence: (T, V) logits, (T, D) last hidden state, each block's arguments."""

    logits: torch.Tensor
    hidden: torch.Tensor
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]]


def _run_probe(adapter: ModelAdapter, ids: torch.Tensor) -> _Probe:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    last: list[torch.Tensor] = []
    with ExitStack() as stack:
        for block in adapter.blocks:
            hook = block.register_forward_pre_hook(lambda _, a, k: calls.append((a, k)), with_kwargs=True)
            stack.callback(hook.remove)
        hook = adapter.blocks[-1].register_forward_hook(lambda _, __, out: last.append(hidden_of_output(out)))
        stack.callback(hook.remove)
        logits = adapter.model(input_ids=ids, use_cache=False).logits[0]
    return _Probe(logits=logits, hidden=last[0][0], calls=calls)


@contextmanager
def _rounding_noise(blocks: list[torch.nn.Module]) -> Iterator[None]:
    """Change the blocks' outputs by random relative errors of one unit in the last place."""
    generator = torch.Generator().manual_seed(0)

    def jitter(_: Any, __: Any, output: Any) -> Any:
        hidden = hidden_of_output(output)
        unit = max(torch.finfo(hidden.dtype).eps, torch.finfo(torch.float32).eps)
        noise = (2 * torch.rand(hidden.shape, generator=generator, dtype=torch.float64) - 1) * unit
        jittered = (hidden.double() * (1 + noise.to(hidden.device))).to(hidden.dtype)
        return (jittered, *output[1:]) if isinstance(output, tuple) else jittered

    with ExitStack() as stack:
        for block in blocks:
            stack.callback(block.register_forward_hook(jitter).remove)
        yield


def _difference(a: torch.Tensor, b: torch.Tensor) -> float:
    if a.shape != b.shape:
        return math.inf
    difference = (a.double() - b.double()).square().mean().sqrt().item()
    return difference if math.isfinite(difference) else math.inf


def _chained(adapter: ModelAdapter, probe: _Probe) -> torch.Tensor:
    """(T, D) hidden state after running the blocks one by one on the first one's input."""
    hidden = hidden_of_input(*probe.calls[0])
    for block, (args, kwargs) in zip(adapter.blocks, probe.calls, strict=True):
        output = block(hidden, *args[1:], **kwargs) if args else block(**{**kwargs, "hidden_states": hidden})
        hidden = hidden_of_output(output)
    return hidden[0]  # type: ignore[no-any-return]


def _cached_logits(adapter: ModelAdapter, ids: torch.Tensor) -> torch.Tensor:
    """(T, V) logits of a pass over the first half, then one token at a time with the cache."""
    half = ids.shape[1] // 2
    output = adapter.model(input_ids=ids[:, :half], use_cache=True)
    logits = [output.logits[0]]
    for position in range(half, ids.shape[1]):
        output = adapter.model(
            input_ids=ids[:, position : position + 1],
            attention_mask=torch.ones_like(ids[:, : position + 1]),
            past_key_values=output.past_key_values,
            use_cache=True,
        )
        logits.append(output.logits[0])
    return torch.cat(logits)


@torch.inference_mode()
def validate(adapter: ModelAdapter) -> list[Check]:
    """Compare the adapter's view with the model itself.

    Returns:
        One entry a check, passed or not; `ValidationError` is the caller's to raise (see `require_valid`).
    """
    ids = probe_ids(adapter.model)
    probe = _run_probe(adapter, ids)
    with _rounding_noise(adapter.blocks):
        noisy = _run_probe(adapter, ids)
    with _rounding_noise(adapter.blocks[-1:]):
        noisy_at_end = _run_probe(adapter, ids)
    last_hidden = adapter.capture(ids)[-1]
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
            claim="a pass in pieces with a cache equals the pass in one go",
            error=_difference(_cached_logits(adapter, ids), probe.logits),
            tolerance=SLACK * _difference(noisy.logits, probe.logits),
        ),
    ]


def require_valid(adapter: ModelAdapter, checks: list[Check]) -> None:
    """Refuse a model that failed a check.

    Raises:
        ValidationError: names the check, the error and the tolerance.
    """
    for check in checks:
        if not check.passed:
            raise ValidationError(
                f"{type(adapter.model).__name__} is refused: '{check.claim}' does not hold (difference "
                f"{check.error:.3g}, the model's own rounding error allows {check.tolerance:.3g}); "
                "run 'exitbench check' for the full report"
            )
