"""Signals by way of the GPU kernels, from a model's hidden states.

They run in Triton's interpreter, on a CPU; with `TRITON_INTERPRET=0` and a GPU, compiled.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("triton", reason="the kernels need triton, which exists for Linux: pip install 'exitbench[gpu]'")

from exitbench.models.adapter import ModelAdapter
from exitbench.models.discover import probe_ids
from exitbench.models.readout import Readout
from exitbench.models.toy import toy_model
from exitbench.signals import SIGNALS, compute, compute_signals, fused, signal
from exitbench.signals.fused import FusedReadout, fused_readout
from exitbench.signals.triton_kernels import INTERPRETED

DEVICE = "cpu" if INTERPRETED else "cuda"
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")
by_triton = pytest.mark.parametrize("reductions", ["triton"], indirect=True)
no_kernels = pytest.mark.parametrize("reductions", ["torch"], indirect=True)

DTYPES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
FAMILIES = ("llama", "gptj", "mamba", "deepseek_v3", "zamba2", "deepseek_v4")
"""Plain; with a bias; float32 logits that hold bfloat16 values; latent attention; hybrid; several streams."""


def sixteenths(values):
    return values.mul(16).round().div(16)


def toy(family="llama", *, dtype=torch.bfloat16):
    """Readout, hidden states and targets of a toy model whose products are the same in whichever order they are summed.

    Features and head are in sixteenths: every sum is a float32 number.
    """
    adapter = ModelAdapter(toy_model(family, dtype=dtype).to(DEVICE))
    *_, norm, head = (adapter.model.get_submodule(path) for path in adapter.paths.tail)
    norm.register_forward_hook(lambda module, args, features: sixteenths(features))
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(sixteenths(parameter))
    ids = probe_ids(adapter.model)
    hidden = adapter.capture(ids, slice(0, 23))
    return SimpleNamespace(readout=Readout(adapter), hidden=hidden, target=ids[0, 1:], head=head)


def signals_of(toy, **options):
    return compute_signals(toy.hidden, toy.target, toy.readout, **options)


def not_finite(signals):
    """The tokens and depths at which recording stops."""
    return ~np.isfinite(signals["top1_prob"]) | ~np.isfinite(signals["entropy"])


@by_triton
@DTYPES
@pytest.mark.parametrize("family", FAMILIES)
def test_toy_models_against_naive(family, dtype, assert_as_exact_as_naive):
    """A depth, token, bias or rounding mixed up on the way from hidden states to kernels and back."""
    model = toy(family, dtype=dtype)
    ours = signals_of(model)
    logits = model.readout(model.hidden.flatten(0, 1)).view(*model.hidden.shape[:2], -1)
    given = logits.float(), model.hidden.float(), model.target
    assert_as_exact_as_naive(ours, *(values.cpu().numpy() for values in given))
    assert ours["kl_final"][:, -1].tolist() == ours["tv_final"][:, -1].tolist() == [0] * 23


@by_triton
@pytest.mark.parametrize("rows", [1, 5, 7, 8, 14, 20])
def test_chunks_do_not_matter(rows):
    """Tokens or depths mixed up at the border of a chunk; a last, smaller chunk that is lost."""
    model = toy()
    model.hidden, model.target = model.hidden[:, :7], model.target[:7]
    at_once = signals_of(model)
    memory = fused._BYTES_OF_NUMBER * model.hidden.shape[-1] * rows
    assert FusedReadout.sizes(model.hidden.shape, memory) == (min(rows, 7), max(1, rows // 7))
    for name, values in signals_of(model, memory=memory).items():
        np.testing.assert_allclose(values, at_once[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_many_tokens_are_taken_at_once_but_not_all():
    """Launches that leave a GPU idle, or that grow with the trace."""
    for num_rows, want in ((0, (1, 8192)), (100, (100, 81)), (8192, (8192, 1)), (10**6, (8192, 1))):
        assert FusedReadout.sizes(torch.Size((33, num_rows, 4096)), 2**40) == want


@by_triton
def test_ties_go_to_the_lowest_id():
    """Equal rows of the head that are told apart."""
    model = toy()
    best = signals_of(model)["top1_id"]
    copy_of_best = (best[0, -1] + 130) % 259
    with torch.no_grad():
        model.head.weight[copy_of_best] = model.head.weight[best[0, -1]]
    tied = signals_of(model)
    assert tied["top1_id"][0, -1] == min(best[0, -1], copy_of_best)
    assert tied["margin"][0, -1] == tied["final_rank"][0, -1] == 0


@by_triton
def test_not_finite_logits_show():
    """A NaN turned into a number: a broken sample would be scored. Or one that spoils the tokens beside it."""
    model = toy()
    model.hidden = model.hidden.clone()
    model.hidden[1, 2] = torch.nan
    model.hidden[-1, 3, 0] = torch.inf
    signals = signals_of(model)
    assert np.argwhere(not_finite(signals)).tolist() == [[2, 1], [3, len(model.hidden) - 1]]
    assert np.isnan(signals["kl_final"][3]).all()
    assert np.isnan(signals["tv_final"][3]).all()
    with torch.no_grad():
        model.head.weight[200] = torch.inf
    assert not_finite(signals_of(model)).all()


@no_kernels
@DTYPES
def test_arbitrary_numbers(dtype, monkeypatch):
    """Kernels that agree with torch on special numbers alone; here a logit may be rounded to its neighbour."""
    adapter = ModelAdapter(toy_model("gpt2", dtype=dtype).to(DEVICE))
    ids = probe_ids(adapter.model)
    arguments = adapter.capture(ids, slice(0, 23)), ids[0, 1:], Readout(adapter)
    monkeypatch.setattr(compute, "_KERNELS_RUN_ON", ())
    want = compute_signals(*arguments)
    monkeypatch.setattr(compute, "_KERNELS_RUN_ON", (DEVICE,))
    monkeypatch.setattr(compute, "_views", None)
    for name, values in compute_signals(*arguments).items():
        if np.issubdtype(values.dtype, np.integer):
            assert (values == want[name]).mean() > 0.95, name
        else:
            np.testing.assert_allclose(values, want[name], atol=0.05, err_msg=name)


@no_kernels
def test_a_signal_of_another_package_gets_its_logits(monkeypatch):
    """A registered signal that fails on a GPU because nothing holds logits there."""
    monkeypatch.setattr(compute, "_KERNELS_RUN_ON", (DEVICE,))
    monkeypatch.setattr(SIGNALS, "_entries", dict(SIGNALS._entries))

    @signal(unit="logit", low=-np.inf, high=np.inf, confidence=0, known_while_running=True)
    def smallest(view):
        """Smallest logit."""
        return view.logits.float().amin(-1)

    model = toy()
    want = model.readout(model.hidden.flatten(0, 1)).float().amin(-1).view(-1, 23).T.cpu()
    assert np.array_equal(signals_of(model)["smallest"], want)


@no_kernels
def test_a_comparison_with_the_depth_before_gets_its_logits(monkeypatch):
    """An optional signal of our own that fails on a GPU, or one that keeps the kernels from all other traces."""
    monkeypatch.setattr(compute, "_KERNELS_RUN_ON", (DEVICE,))
    model, used = toy(), []
    monkeypatch.setattr(fused, "fused_readout", lambda readout: used.append(readout))
    divergence = signals_of(model, names=["kl_prev"])["kl_prev"]
    assert not used
    assert np.isfinite(divergence[:, 1:]).all()
    signals_of(model)
    assert used == [model.readout]


@no_kernels
@pytest.mark.parametrize(
    ("kernel", "name", "change"),
    [
        ("reduce_logits", "top_id", lambda ids: (ids + 1) % 259),
        ("reduce_logits", "log_normaliser", lambda values: 1.5 * values),
        ("reduce_logits", "second_logit", lambda values: values - 3),
        ("compare_logits", "total_variation", lambda values: values / 2),
        ("compare_logits", "surprise", lambda values: -values),
    ],
)
def test_kernels_that_are_wrong_are_not_used(kernel, name, change, monkeypatch):
    """A miscompiled kernel, by whose numbers everything is then measured."""
    right = getattr(fused, kernel)

    def wrong(*arguments, **named):
        result = right(*arguments, **named)
        return replace(result, **{name: change(getattr(result, name))})

    readout = toy().readout
    monkeypatch.setattr(fused, kernel, wrong)
    assert fused_readout(readout) is None
    monkeypatch.setattr(fused, kernel, right)
    assert fused_readout(readout) is None, "the trial is made once"
    assert fused_readout(toy().readout) is not None


@no_kernels
@pytest.mark.parametrize(("error", "is_raised"), [(RuntimeError, False), (torch.OutOfMemoryError, True)])
def test_kernels_that_cannot_run(error, is_raised, monkeypatch):
    """A machine without the compiler that Triton needs, which could not trace; or memory that runs out unnoticed."""

    def fail(*arguments):
        raise error("no")

    monkeypatch.setattr(fused, "reduce_logits", fail)
    readout = toy().readout
    if is_raised:
        with pytest.raises(error):
            fused_readout(readout)
        assert readout not in fused._HEADS
    else:
        assert fused_readout(readout) is None


@no_kernels
@pytest.mark.parametrize(
    ("family", "dtype"), [("llama", torch.float32), ("gemma2", torch.bfloat16)], ids=["float32", "soft-cap"]
)
def test_readouts_that_no_kernel_covers(family, dtype):
    """Logits without their soft-cap, or operands that the kernels would read as another dtype."""
    assert fused_readout(Readout(ModelAdapter(toy_model(family, dtype=dtype)))) is None


@no_kernels
@pytest.mark.skipif(not INTERPRETED, reason="the model is on a GPU")
def test_a_cpu_never_runs_the_kernels(monkeypatch):
    """Triton's interpreter, a thousand times slower, in place of compiled code."""
    monkeypatch.setattr(fused, "fused_readout", lambda readout: pytest.fail("kernels on a CPU"))
    signals_of(toy())
