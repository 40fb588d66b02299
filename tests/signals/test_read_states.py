"""States that are read out in place of the hidden states."""

import numpy as np
import pytest
import torch

from exitbench.models.adapter import ModelAdapter
from exitbench.models.discover import probe_ids
from exitbench.models.readout import Readout
from exitbench.models.toy import toy_model
from exitbench.signals import compute_signals

OF_HIDDEN_STATES = {"hidden_cosine", "hidden_cosine_prev", "hidden_norm"}


@pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")
@pytest.mark.parametrize("reductions", ["compiled", "torch", "triton"], indirect=True)
def test_only_what_is_read_out_changes(reductions):
    """Translated states whose norm is taken for the model's, or a readout of the states as they were."""
    adapter = ModelAdapter(toy_model(dtype=torch.bfloat16))
    ids, readout = probe_ids(adapter.model), Readout(adapter)
    hidden, target = adapter.capture(ids, slice(0, 9)), ids[0, 1:10]
    read = torch.cat([hidden[:-1].flip(2), hidden[-1:]])
    plain, other = compute_signals(hidden, target, readout), compute_signals(read, target, readout)
    mixed = compute_signals(hidden, target, readout, read_LRD=read, memory=20 * 259 * 4)
    for name, values in mixed.items():
        want = plain if name in OF_HIDDEN_STATES else other
        assert np.allclose(values, want[name], rtol=1e-5, atol=1e-5, equal_nan=True), name
    assert not np.allclose(plain["kl_final"], other["kl_final"])
    assert not np.allclose(plain["hidden_norm"], other["hidden_norm"] * 2)
