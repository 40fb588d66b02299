"""What every registered signal promises; a new one passes as soon as it has a case in `tests/signals/cases.json`."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from exitbench.models.adapter import ModelAdapter
from exitbench.models.discover import probe_ids
from exitbench.models.readout import Readout
from exitbench.models.toy import toy_model
from exitbench.signals import SIGNALS, compute_signals
from readouts import Given

CASES = json.loads((Path(__file__).parent.parent / "signals" / "cases.json").read_text(encoding="utf-8"))
NAMES = tuple(SIGNALS)


def _signals(logits, target=None):
    """Signals of (L + 1, R, V) logits that stand for the hidden states too."""
    target = torch.zeros(logits.shape[1], dtype=torch.long) if target is None else target
    return compute_signals(logits, target, Given(logits), names=NAMES)


def _logits(seed, scale, *, dtype=torch.float32, ties=False):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(4, 30, 70, generator=generator)
    return (logits.round() if ties else logits).to(dtype)


@pytest.fixture(scope="module")
def recorded():
    """Signals over flat, peaked and tied logits in three dtypes, and of a toy model."""
    tables = [
        _signals(_logits(seed, scale, dtype=dtype, ties=seed % 2 == 1))
        for seed, scale in enumerate((0.6, 1.0, 5.0, 30.0, 1000.0))
        for dtype in (torch.float32, torch.bfloat16, torch.float16)
    ]
    adapter = ModelAdapter(toy_model())
    ids = probe_ids(adapter.model)
    hidden = adapter.capture(ids, slice(0, 23))
    return [*tables, compute_signals(hidden, ids[0, 1:], Readout(adapter), names=NAMES)]


@pytest.mark.parametrize("name", NAMES)
def test_has_a_case_computed_by_hand(name):
    """A signal that nobody ever checked with pencil and paper."""
    assert any(case["signal"] == name for case in CASES), f"add a case for {name} to tests/signals/cases.json"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["signal"])
def test_case_computed_by_hand(case):
    """A formula that is not the one in the name: natural logarithms, direction of a divergence, off-by-one ranks."""
    if "probabilities" in case:
        values = torch.tensor(case["probabilities"], dtype=torch.float64).log().float()
    else:
        values = torch.tensor(case.get("logits", case.get("hidden")), dtype=torch.float32)
    got = _signals(values[:, None], torch.tensor([case.get("target", 0)]))[case["signal"]]
    expected = [math.nan if value is None else value for value in case["expected"]]
    np.testing.assert_allclose(got, [expected], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_in_range_and_finite(name, recorded):
    """A probability above 1, a negative entropy from rounding, a NaN where there is a number."""
    signal = SIGNALS.get(name)
    for table in recorded:
        values = table[name]
        assert values.dtype == signal.dtype
        undefined = np.isnan(values)
        if name in ("hidden_cosine_prev", "kl_prev"):
            assert undefined[:, 0].all()
            undefined = undefined[:, 1:]
        assert not undefined.any()
        assert np.isfinite(values).sum() == values.size - np.isnan(values).sum()
        assert np.nanmin(values) >= signal.low
        assert np.nanmax(values) <= signal.high


@pytest.mark.parametrize("name", NAMES)
def test_does_not_depend_on_the_batch(name):
    """A signal that looks at other rows."""
    logits, target = _logits(7, 3.0), torch.arange(30)
    together = _signals(logits, target)[name]
    order = torch.arange(29, -1, -1)
    backwards = _signals(logits[:, order], target[order])[name]
    np.testing.assert_allclose(backwards[::-1], together, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_running_signals_do_not_see_what_comes_later(name):
    """A policy fed with the final distribution, a deeper depth or the next token: it would cheat in replay."""
    before, target = _logits(1, 3.0), torch.arange(30)
    after = before.clone()
    after[2:] = _logits(2, 3.0)[2:]
    known = np.array_equal(
        _signals(before, target)[name][:, :2], _signals(after, target + 30)[name][:, :2], equal_nan=True
    )
    assert known == SIGNALS.get(name).known_while_running


@pytest.mark.parametrize("name", NAMES)
def test_direction_of_confidence(name):
    """A threshold on the wrong side: exits where the model is least sure."""
    settled = torch.zeros(3, 1, 10)
    settled[..., 4] = 20.0
    unsettled = _logits(3, 0.5)[:3, :1, :10].clone()
    unsettled[2] = settled[2]  # both end alike
    sure, unsure = (_signals(logits)[name][0, 1] for logits in (settled, unsettled))
    direction = SIGNALS.get(name).confidence
    assert direction in (-1, 0, 1)
    assert direction == 0 or direction * (float(sure) - float(unsure)) > 0


@pytest.mark.parametrize("name", NAMES)
def test_says_what_it_is(name):
    """A signal that lists show without unit or meaning."""
    signal = SIGNALS.get(name)
    assert signal.name == name
    assert signal.unit
    assert signal.summary.endswith("."), signal.summary
    assert len(signal.summary) < 120
    assert signal.low < signal.high
