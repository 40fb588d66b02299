"""The GPU kernels against `DepthView` on whole logits.

They run in Triton's interpreter, on a CPU; with `TRITON_INTERPRET=0` and a GPU, compiled.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="the kernels need triton, which exists for Linux: pip install 'exitbench[gpu]'")

from exitbench.signals.triton_kernels import INTERPRETED
from exitbench.signals.triton_readout import Head, reduce_logits, stretch_length
from plain_readout import Double, fused_fields, plain_fields, plain_logits

DEVICE = "cpu" if INTERPRETED else "cuda"
# In the interpreter a tile has 16 rows and 128 columns, and a stretch of the vocabulary 256 ids.
pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter"),
    pytest.mark.parametrize(
        "reductions", ["torch"], indirect=True
    ),  # which are of no concern to the kernels themselves
]

BF16, FP16 = torch.bfloat16, torch.float16
# Rows, D, V, dtype of the operands and what else differs.
CASES = {
    "whole tiles": (16, 64, 512, BF16, {}),
    "nothing divides": (19, 40, 300, BF16, {"bias": True}),
    "nothing divides, float16": (19, 40, 300, FP16, {"bias": True}),
    "one row": (1, 72, 130, BF16, {}),
    "vocabulary smaller than a tile": (3, 16, 5, BF16, {"bias": True}),
    "several stretches, the last of one id": (5, 24, 513, FP16, {}),
    "scale": (5, 24, 70, BF16, {"scale": 0.3}),
    "soft-cap": (5, 24, 70, BF16, {"softcap": 3.0}),
    "all of them": (5, 24, 300, BF16, {"bias": True, "scale": 1.7, "softcap": 30.0}),
    "all of them, float16": (5, 24, 70, FP16, {"bias": True, "scale": 1.7, "softcap": 30.0}),
    "float32 logits": (5, 24, 300, BF16, {"output_dtype": torch.float32}),
}


def make(num_rows, hidden_size, vocab_size, *, dtype, sixteenths=True, bias=False, **settings):
    """Hidden states, final hidden states, ids and a head.

    In sixteenths every product and every sum of them is a float32 number: logits are the same in whichever order they
    are summed up, and everything that is compared must be equal.
    """
    generator = torch.Generator().manual_seed(vocab_size)

    def draw(*shape, scale):
        values = torch.randn(shape, generator=generator) * scale
        return (values.mul(16).round().div(16) if sixteenths else values).to(dtype).to(DEVICE)

    hidden = draw(num_rows, hidden_size, scale=1)
    final_hidden = hidden + draw(num_rows, hidden_size, scale=0.3)
    weight = draw(vocab_size, hidden_size, scale=2 * hidden_size**-0.5)
    offsets = draw(vocab_size, scale=1) if bias else None
    ids = torch.randint(vocab_size, (num_rows,), generator=generator).to(DEVICE)
    return hidden, final_hidden, ids, Head(weight=weight, bias=offsets, **({"output_dtype": dtype} | settings))


def assert_as_exact_as_plain(ours, plain, exact):
    """Our error is at most 4 times that of the plain float32 computation, plus 8 roundings of the largest value."""
    for name, want in exact.items():
        error, plain_error = ((got[name].double() - want.double()).abs() for got in (ours, plain))
        roundings = 8 * torch.finfo(torch.float32).eps * max(1.0, float(want.abs().max()))
        assert error.max() <= 4 * plain_error.max() + roundings, (name, int(error.argmax()), ours[name], want)


@pytest.mark.parametrize("case", CASES)
def test_same_logits_give_the_same_numbers(case):
    """A wrong edge, order of steps, rounding, tie, merge of tiles or of stretches."""
    *shape, dtype, settings = CASES[case]
    inputs = make(*shape, dtype=dtype, **settings)
    hidden, final_hidden, ids, head = inputs
    logits, final_logits = plain_logits(hidden, head), plain_logits(final_hidden, head)
    ours = fused_fields(*inputs)
    plain = plain_fields(logits, final_logits, ids)
    for name in ("top_id", "top_logit", "second_logit", "at", "final_rank"):
        assert torch.equal(ours[name].float(), plain[name].float()), name
    assert_as_exact_as_plain(ours, plain, plain_fields(logits.double(), final_logits.double(), ids, kind=Double))


@pytest.mark.parametrize(
    ("dtype", "settings"),
    [(BF16, {}), (FP16, {}), (BF16, {"output_dtype": torch.float32, "softcap": 5.0})],
    ids=["bfloat16", "float16", "float32 logits, soft-cap"],
)
def test_arbitrary_numbers(dtype, settings):
    """Sums that depend on their order; float64 without any rounding of the logits is the measure."""
    inputs = make(16, 136, 400, dtype=dtype, sixteenths=False, bias=True, **settings)
    hidden, final_hidden, ids, head = inputs
    ours = fused_fields(*inputs)
    both = [plain_logits(x, head) for x in (hidden, final_hidden)]
    both_exact = [plain_logits(x, head, torch.float64, rounded=False) for x in (hidden, final_hidden)]
    plain, exact = plain_fields(*both, ids), plain_fields(*both_exact, ids, kind=Double)
    logit_error = max((a - b).abs().max() for a, b in zip(both, both_exact, strict=True))
    clear = exact["top_logit"] - exact["second_logit"] > 2 * logit_error
    assert clear.sum() > 10
    assert torch.equal(ours["top_id"][clear], exact["top_id"][clear].int())
    for fields in (ours, plain, exact):
        del fields["top_id"]
    assert (ours.pop("final_rank") - plain.pop("final_rank")).abs().max() <= 2
    del exact["final_rank"]
    assert_as_exact_as_plain(ours, plain, exact)


@pytest.mark.parametrize("ids", [(3, 4), (127, 128), (255, 256), (7, 140, 290)], ids=str)
def test_of_those_tied_the_lowest_id(ids):
    """The last of a tile, the first of a later tile or stretch, or a second place that is no tie."""
    hidden, _, target, head = make(6, 24, 300, dtype=BF16)
    head.weight[list(ids)] = hidden[0]
    hidden[1:] = hidden[0]
    reduction = reduce_logits(hidden, head, target[:, None])
    assert (plain_logits(hidden, head)[0] == reduction.top_logit[0]).sum() == len(ids)
    assert (reduction.top_id == ids[0]).all()
    assert torch.equal(reduction.second_logit, reduction.top_logit)


def test_rounding_makes_ties():
    """A comparison before the rounding: in bfloat16, 256 and 257 are the same logit."""
    hidden = torch.ones(1, 16, dtype=BF16, device=DEVICE)
    weight = torch.zeros(40, 16, dtype=BF16, device=DEVICE)
    weight[[5, 9], 0], weight[9, 1] = 256.0, 1.0
    for output_dtype, top_id in ((BF16, 5), (torch.float32, 9)):
        reduction = reduce_logits(hidden, Head(weight=weight, output_dtype=output_dtype), hidden.new_empty((1, 0)))
        assert int(reduction.top_id) == top_id


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("column", [0, 299])
def test_what_is_not_finite_shows(value, column):
    """A maximum that passes over what is not a number, and hides it."""
    hidden, _, ids, head = make(3, 24, 300, dtype=FP16)
    head.weight[column] = 0
    head.weight[column, 0] = value
    hidden[:, 0] = torch.tensor([1.0, -1.0, 0.0])
    reduction = reduce_logits(hidden, head, ids[:, None])
    assert reduction.log_normaliser[[0, 2]].isnan().all()
    assert reduction.expected.isnan().all()


def test_one_bad_row_leaves_the_others_alone():
    """Rows that share a tile and mix."""
    hidden, _, ids, head = make(5, 24, 300, dtype=BF16)
    good = reduce_logits(hidden, head, ids[:, None])
    hidden[2] = torch.nan
    bad = reduce_logits(hidden, head, ids[:, None])
    rest = [0, 1, 3, 4]
    assert bad.log_normaliser[2].isnan()
    for name, values in vars(good).items():
        assert torch.equal(getattr(bad, name)[rest], values[rest]), name


def test_spread_far_from_zero():
    """Squares summed before the mean is taken off: with logits near 4096 nothing would be left of the spread."""
    hidden, final_hidden, ids, head = make(4, 24, 700, dtype=BF16, output_dtype=torch.float32)
    shifted = Head(weight=head.weight, bias=torch.full((700,), 4096.0, device=DEVICE), output_dtype=torch.float32)
    here, there = (fused_fields(hidden, final_hidden, ids, of) for of in (head, shifted))
    for name in ("centred_square", "centred_product"):
        torch.testing.assert_close(there[name], here[name], rtol=1e-4, atol=0)  # means there are 2**-11 apart


def test_an_id_out_of_range_has_no_logit():
    """The padding of the last tile, or old memory, taken for a logit."""
    hidden, _, _, head = make(2, 24, 300, dtype=BF16)
    ids = torch.tensor([[299, 300], [-1, 0]], device=DEVICE)
    assert reduce_logits(hidden, head, ids).at.isnan().tolist() == [[False, True], [True, False]]


def test_memory_does_not_grow_with_the_vocabulary():
    """Partial results one a tile instead of one a stretch."""
    for num_rows, most in ((8192, 16), (1, 256)):
        for vocab_size in (32000, 128256, 262144):
            assert vocab_size / stretch_length(num_rows, vocab_size) <= most


def test_compiles_for_hopper():
    """Code that only the interpreter accepts, and registers that spill into memory."""
    script = Path(__file__).with_name("compile_kernels.py")
    environment = os.environ | {"TRITON_INTERPRET": "0"}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    for kernel in json.loads(done.stdout):
        assert kernel["stack_bytes"] <= 16, kernel
        assert kernel["uses_tensor_cores"], kernel
        assert kernel["shared_bytes"] <= 227 * 1024, kernel
