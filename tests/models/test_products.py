"""Matrix products seen operation by operation, against counts by hand."""

import pytest
import torch
from torch.nn import functional

from exitbench.models.products import Products, is_packed

ROWS, WIDE, OUT, EXPERTS = 5, 8, 12, 4


class _Weights(torch.nn.Module):
    """A module with a matrix and a stack of them, whose forward is given from outside."""

    def __init__(self, forward, dtype=torch.float32):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.matrix = torch.nn.Parameter(torch.randn(OUT, WIDE, generator=generator).to(dtype))
        self.stack = torch.nn.Parameter(torch.randn(EXPERTS, WIDE, OUT, generator=generator).to(dtype))
        self._run = forward

    def forward(self, rows):
        return self._run(self, rows)


def _counted(run, rows=None, dtype=torch.float32, inference=False):
    model = _Weights(run, dtype).requires_grad_(False)
    products = Products(model)
    products.phase = "here"
    rows = torch.randn(ROWS, WIDE, dtype=dtype) if rows is None else rows
    with torch.inference_mode(inference), products.watching():
        model(rows)
    return dict(products.weights["here"]), products.context["here"], products


def _batched(model, rows):
    chosen = torch.arange(len(rows)) % EXPERTS
    return torch.bmm(rows[:, None], model.stack[chosen])


def _grouped(model, rows):
    ends = torch.tensor([2, 2, 4, 5], dtype=torch.int32)
    return torch._grouped_mm(rows, model.stack, offs=ends)


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize(
    ("run", "name", "per_row"),
    [
        (lambda m, x: functional.linear(x, m.matrix), "matrix", OUT * WIDE),
        (lambda m, x: x @ m.matrix.T, "matrix", OUT * WIDE),
        (lambda m, x: torch.addmm(torch.zeros(OUT), x, m.matrix.t()), "matrix", OUT * WIDE),
        (lambda m, x: torch.einsum("rw,ow->ro", x, m.matrix), "matrix", OUT * WIDE),
        (lambda m, x: (m.matrix @ x.T).T, "matrix", OUT * WIDE),
        (lambda m, x: x @ m.matrix.double().float().T, "matrix", OUT * WIDE),
        (lambda m, x: x[None, None] @ m.matrix.T, "matrix", OUT * WIDE),
        (lambda m, x: x @ m.stack[2], "stack", OUT * WIDE),
        (lambda m, x: functional.linear(x, m.stack.transpose(1, 2)[1]), "stack", OUT * WIDE),
        (_batched, "stack", OUT * WIDE),
        (_grouped, "stack", OUT * WIDE),
    ],
)
def test_products_with_weights(run, name, per_row, inference):
    """A way of multiplying by a parameter that is not seen, or is taken for work on the context."""
    weights, context, _ = _counted(run, inference=inference)
    assert (weights, context) == ({name: ROWS * per_row}, 0)


def test_products_of_activations_are_context():
    """Attention counted as weights, or not at all."""
    _, context, _ = _counted(lambda _, x: x @ x.T)
    assert context == ROWS * ROWS * WIDE
    heads = torch.randn(1, 2, ROWS, WIDE)
    _, context, _ = _counted(lambda _, __: functional.scaled_dot_product_attention(heads, heads, heads))
    assert context == 2 * ROWS * ROWS * 2 * WIDE


def test_what_mixes_weights_and_activations_is_no_weight():
    """A scaled input, or a looked-up embedding, taken for a parameter for having been made with one."""
    weights, context, _ = _counted(lambda m, x: (x * m.matrix[0]) @ x.T)
    assert (weights, context) == ({}, ROWS * ROWS * WIDE)
    ids = torch.arange(3)
    weights, context, _ = _counted(lambda m, x: functional.embedding(ids, m.matrix) @ x.T)
    assert (weights, context) == ({}, 3 * ROWS * WIDE)


def test_memory_used_anew_loses_its_note():
    """An activation that lies where a cast weight lay before, taken for that weight."""

    def run(model, rows):
        for _ in range(50):
            cast = model.matrix.double()
            del cast
            rows @ torch.randn(WIDE, OUT, dtype=torch.float64).float()
        return rows

    weights, context, _ = _counted(run)
    assert (weights, context) == ({}, 50 * ROWS * WIDE * OUT)


def test_rows_of_zeros_in_a_batched_product():
    """Experts that were run on zeros, for want of a choice, counted as work."""
    rows = torch.randn(EXPERTS, ROWS, WIDE)
    rows[1:3] = 0
    weights, _, products = _counted(lambda m, x: torch.bmm(x, m.stack), rows)
    assert weights == {"stack": 2 * ROWS * WIDE * OUT}
    assert products.has_idle_rows
    weights, _, products = _counted(lambda m, x: functional.linear(torch.zeros_like(x), m.matrix))
    assert weights == {"matrix": ROWS * WIDE * OUT}
    assert not products.has_idle_rows


def test_convolution():
    """Padding counted as tokens."""
    layer = torch.nn.Conv1d(WIDE, WIDE, 4, groups=WIDE, padding=3).requires_grad_(False)
    products = Products(layer)
    with products.watching():
        layer(torch.randn(1, WIDE, ROWS))
    assert dict(products.weights[None]) == {"weight": ROWS * WIDE * 4}


def test_packed_linear_maps():
    """A quantised map that is not seen, seen twice, or taken for plain."""
    plain = torch.nn.Linear(WIDE, OUT).requires_grad_(False)
    assert not is_packed(plain)
    packed = torch.nn.Linear(WIDE, OUT).requires_grad_(False)
    packed.weight = torch.nn.Parameter(torch.zeros(OUT, WIDE, dtype=torch.int8), requires_grad=False)
    packed.forward = lambda rows: functional.linear(rows, torch.ones(OUT, WIDE))
    assert is_packed(packed)
    assert not is_packed(torch.nn.LayerNorm(WIDE))
    products = Products(packed)
    with products.watching():
        packed(torch.randn(ROWS, WIDE))
    assert dict(products.weights[None]) == {"weight": ROWS * WIDE * OUT}
    assert products.touched[None] == {"weight"}
    assert products.context[None] == 0


def test_weights_side_by_side_share_a_product_by_their_sizes():
    """Projections of unequal sizes, joined for one product, counted as equal."""

    def run(model, rows):
        return functional.linear(rows, torch.cat([model.matrix, model.stack[0, :, :WIDE][:4]]))

    weights, _, _ = _counted(run)
    assert sum(weights.values()) == ROWS * WIDE * (OUT + 4)
    assert weights["stack"] / weights["matrix"] == pytest.approx(EXPERTS * WIDE * OUT / (OUT * WIDE), rel=0.01)


def test_weights_packed_into_buffers():
    """Weights that a quantiser keeps in buffers, taken for activations: the cost of a block without its matrices."""
    packed = torch.nn.Module()
    packed.in_features, packed.out_features = WIDE, OUT
    packed.register_buffer("qweight", torch.zeros(OUT, WIDE))
    packed.forward = lambda rows: functional.linear(rows, packed.qweight)
    assert is_packed(packed)
    products = Products(packed)
    with products.watching():
        packed(torch.randn(ROWS, WIDE))
    assert sum(products.weights[None].values()) == ROWS * WIDE * OUT
    assert products.context[None] == 0


def test_phases_and_parameters_touched():
    """Work added to another part of the model, or a parameter used only in a sum taken for idle."""
    model = _Weights(lambda m, x: functional.linear(x, m.matrix)).requires_grad_(False)
    products = Products(model)
    with products.watching():
        products.phase = 1
        model(torch.randn(ROWS, WIDE))
        products.phase = 2
        model.stack + 1
    assert products.touched == {1: {"matrix"}, 2: {"stack"}}
    assert list(products.weights) == [1]


def test_weights_that_are_brought_in_for_a_call():
    """Offloaded weights, made anew for every call, that no name is known for."""
    model = _Weights(lambda m, x: functional.linear(x, m.matrix)).requires_grad_(False)
    products = Products(model)
    with products.watching():
        for _ in range(3):
            model.matrix = torch.nn.Parameter(torch.randn(OUT, WIDE), requires_grad=False)
            model(torch.randn(ROWS, WIDE))
    assert dict(products.weights[None]) == {"matrix": 3 * ROWS * WIDE * OUT}


def test_nothing_stays_behind():
    """Hooks or a mode left on after an error."""
    model = torch.nn.Linear(WIDE, OUT).requires_grad_(False)
    model.weight = torch.nn.Parameter(torch.zeros(OUT, WIDE, dtype=torch.int8), requires_grad=False)
    with pytest.raises(RuntimeError), Products(model).watching():
        model(torch.randn(ROWS, WIDE))
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
