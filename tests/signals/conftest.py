"""Ways to compare the signals with the naive reference."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from exitbench.signals import SIGNALS, compute_signals
from naive import naive_signals
from readouts import Given


def _of_logits(logits: torch.Tensor, target: Any = None, **options: Any) -> dict[str, np.ndarray]:
    """Our signals of given (L + 1, R, V) logits, which stand for the hidden states as well; target 0 if None."""
    target = torch.zeros(logits.shape[1], dtype=torch.long) if target is None else torch.as_tensor(target)
    return compute_signals(logits, target, Given(logits), **options)


def _assert_as_exact_as_naive(
    ours: dict[str, np.ndarray], logits: np.ndarray, hidden: np.ndarray, target: np.ndarray
) -> None:
    """Our error against float64 is at most 4 times that of the naive float32 computation, plus 8 roundings.

    Errors are the largest of the array, and of two naive computations that add up in opposite orders, since one alone
    is often exact by luck. The 8 roundings are there because both may be. They are of the signal's largest magnitude,
    and at least of log V, the size of the log-sum-exps of which a divergence is the difference. Ids and ranks must be
    equal: comparing is exact.
    """
    exact = naive_signals(logits.astype(np.float64), hidden.astype(np.float64), target)
    plain = naive_signals(logits.astype(np.float32), hidden.astype(np.float32), target)
    last_first = (values[..., ::-1].astype(np.float32) for values in (logits, hidden))
    backwards = naive_signals(*last_first, logits.shape[-1] - 1 - np.asarray(target))
    assert all(not SIGNALS.get(name).recorded_by_default for name in exact.keys() - ours.keys())
    for name, want in exact.items():
        if name not in ours:
            continue
        if np.issubdtype(ours[name].dtype, np.integer):
            assert np.array_equal(ours[name], want), (name, np.argwhere(ours[name] != want)[:3])
            continue
        assert np.array_equal(np.isnan(ours[name]), np.isnan(want)), name
        error, *naive_errors = (np.nan_to_num(np.abs(got[name] - want)) for got in (ours, plain, backwards))
        roundings = 8 * np.finfo(np.float32).eps * max(1.0, math.log(logits.shape[-1]), np.nanmax(np.abs(want)))
        worst = np.unravel_index(error.argmax(), error.shape)
        assert error.max() <= 4 * np.max(naive_errors) + roundings, (name, worst, ours[name][worst], want[worst])


def _no_logits(*_: object) -> None:
    pytest.fail("logits of all tokens were asked for, which kernels do without")


@pytest.fixture(scope="session")
def of_logits() -> Callable[..., dict[str, np.ndarray]]:
    """Our signals of given logits, see `_of_logits`."""
    return _of_logits


@pytest.fixture(scope="session")
def assert_as_exact_as_naive() -> Callable[..., None]:
    """The comparison with the naive reference, see `_assert_as_exact_as_naive`."""
    return _assert_as_exact_as_naive


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def reductions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test of signals runs with compiled reductions and with those of torch; the name of which.

    Those that go through a model's readout may ask for "triton" as well: GPU kernels, and never any logits.
    """
    if request.param == "triton":
        pytest.importorskip("triton", reason="triton exists for Linux only: pip install 'exitbench[gpu]'")
        monkeypatch.setattr("exitbench.signals.compute._KERNELS_RUN_ON", ("cpu", "cuda"))
        monkeypatch.setattr("exitbench.signals.compute._views", _no_logits)
    if request.param == "torch":
        monkeypatch.setattr("exitbench.signals.compute.native_reductions", lambda *_: None)
        monkeypatch.setattr("exitbench.signals.lazy.native_reductions", lambda *_: None)
    return str(request.param)
