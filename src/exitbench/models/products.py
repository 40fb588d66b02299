"""Watch a pass at the level of single operations: which matrix products there were, and which of them used weights.

An operand counts as weights if it is a parameter or was made from parameters alone: a view of one, one cast to another
dtype, the rows of one that were picked by index. So experts kept in one tensor, batched or grouped products and
transposed maps are all seen, whatever module they hide in. Every other product is work on the context: attention, a
state read out.

Rows of zeros in a batched product are no work: implementations that run every expert on every token give zeros to those
that were not chosen.

Sizes come from the shapes of the operands. A weight that is packed (quantised) is not seen in operations; linear maps
whose weight is no plain matrix of numbers are counted by their rows and stated sizes instead.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

__all__ = ["Products", "is_packed"]

_aten: Any = torch.ops.aten
# Operands of a product; the output has (rows, columns) as its last axes, and the inner length is the first's last axis.
_PRODUCTS: dict[Any, tuple[int, int]] = {
    _aten.mm: (0, 1),
    _aten.bmm: (0, 1),
    _aten.mv: (0, 1),
    _aten.addmm: (1, 2),
    _aten.addmv: (1, 2),
    _aten.baddbmm: (1, 2),
    _aten._grouped_mm: (0, 1),
    _aten._scaled_mm: (0, 1),
}
_LOOKUPS = (_aten.embedding, _aten.embedding_bag)


def is_packed(module: torch.nn.Module) -> bool:
    """Whether a linear map's weight is no plain matrix of numbers: quantised, or of a tensor class of its own."""
    if not hasattr(module, "in_features") or not hasattr(module, "out_features"):
        return False
    weight = getattr(module, "weight", None)
    if weight is None:  # packed into buffers of other names
        return any(True for _ in module.buffers(recurse=False))
    return type(weight.data) is not torch.Tensor or not weight.is_floating_point()


class Products(TorchDispatchMode):
    """Multiply-adds of matrix products, by phase, in everything that runs inside the context.

    Args:
        model: whose parameters are the weights.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._model = model
        # Weak: offloading hooks make parameters anew for every call, and identities are used again.
        self._names = WeakIdKeyDictionary()
        self._sizes: dict[str, int] = {}
        self._name_parameters()
        self._made_from: dict[int, frozenset[str]] = {}
        self._inside_packed = 0
        self.phase: Any = None
        """To which what happens now is added; any hashable value, set from outside."""
        self.weights: defaultdict[Any, Counter[str]] = defaultdict(Counter)
        """Phase -> parameter -> multiply-adds of products with it."""
        self.context: Counter[Any] = Counter()
        """Phase -> multiply-adds of products of which no operand is weights."""
        self.seen: set[Any] = set()
        """Kinds of products that there were."""
        self.has_idle_rows = False
        """Whether experts were run on rows of zeros."""
        self.touched: defaultdict[Any, set[str]] = defaultdict(set)
        """Phase -> parameters that any operation read."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """The context to run the model in."""
        hooks = []
        for name, module in self._model.named_modules():
            if is_packed(module):
                hooks.append(module.register_forward_pre_hook(self._enter_packed))
                hooks.append(module.register_forward_hook(self._leave_packed(f"{name}.weight" if name else "weight")))
        try:
            with self:
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        known = packet in _PRODUCTS or packet in (_aten.convolution, _aten._convolution) or _is_attention(packet)
        if not known and func._can_decompose():
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        sources = {id(t): self._sources(t) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        output = func(*args, **kwargs)
        if known:
            self.seen.add(packet)
        if known and not self._inside_packed:
            self._count(packet, args, output, sources)
        self._follow(packet, args, kwargs, output, sources)
        return output

    def _name_parameters(self) -> None:
        for name, parameter in self._model.named_parameters():
            self._names[parameter] = name
            self._sizes[name] = parameter.numel()

    def name_of(self, parameter: torch.nn.Parameter) -> str:
        """The name under which the model lists a parameter first."""
        if parameter not in self._names:
            self._name_parameters()
        name: str = self._names.get(parameter, "a parameter of no module")
        return name

    def _sources(self, tensor: torch.Tensor) -> frozenset[str]:
        """Parameters that a tensor is, or was made from; empty if anything else went into it."""
        if isinstance(tensor, torch.nn.Parameter):
            name = self.name_of(tensor)
            self.touched[self.phase].add(name)
            return frozenset([name])
        return self._made_from.get(_storage(tensor), frozenset()) if tensor.numel() else frozenset()

    def _follow(self, packet: Any, args: Any, kwargs: Any, output: Any, sources: dict[int, frozenset[str]]) -> None:
        """Note what the output is made from; memory that is used anew loses its old note."""
        floats = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor) and t.is_floating_point()]
        made_from: frozenset[str] = frozenset()
        if floats and packet not in _LOOKUPS and all(sources[id(t)] for t in floats):
            made_from = frozenset().union(*(sources[id(t)] for t in floats))
        for t in tree_leaves(output):
            if isinstance(t, torch.Tensor) and not isinstance(t, torch.nn.Parameter):
                if made_from:
                    self._made_from[_storage(t)] = made_from
                else:
                    self._made_from.pop(_storage(t), None)

    def _count(self, packet: Any, args: tuple[Any, ...], output: Any, sources: dict[int, frozenset[str]]) -> None:
        if _is_attention(packet):
            query, key, value = args[:3]
            heads = prod(query.shape[:-2])
            self.context[self.phase] += heads * query.shape[-2] * key.shape[-2] * (query.shape[-1] + value.shape[-1])
            return
        if packet in _PRODUCTS:
            left, right = (args[i] for i in _PRODUCTS[packet])
            multiply_adds = output.numel() * left.shape[-1]
        else:
            left, right = args[:2]
            # Padding makes a few positions more than there are tokens; they are cut off again.
            positions = min(prod(output.shape[2:]), prod(left.shape[2:]))
            multiply_adds = output.shape[0] * positions * right.numel()
        names = sources[id(left)] | sources[id(right)]
        if not names or (sources[id(left)] and sources[id(right)]):
            self.context[self.phase] += multiply_adds
            return
        if packet is _aten.bmm and sources[id(right)]:
            share = left.ne(0).any(-1).double().mean().item()
            self.has_idle_rows = self.has_idle_rows or share < 1
            multiply_adds = round(multiply_adds * share)
        self._add(names, multiply_adds)

    def _add(self, names: frozenset[str], multiply_adds: int) -> None:
        # A product with several weights side by side is shared out by their sizes.
        sizes = {name: self._sizes.get(name, 1) for name in names}
        for name, size in sizes.items():
            self.weights[self.phase][name] += round(multiply_adds * size / sum(sizes.values()))

    def _enter_packed(self, module: torch.nn.Module, args: Any) -> None:
        self._inside_packed += 1

    def _leave_packed(self, name: str) -> Any:
        def hook(module: Any, args: tuple[Any, ...], output: torch.Tensor) -> None:
            self._inside_packed -= 1
            rows = output.shape[:-1].numel()
            self.touched[self.phase].add(name)
            self._add(frozenset([name]), rows * module.in_features * module.out_features)

        return hook


def _is_attention(packet: Any) -> bool:
    return "scaled_dot_product" in str(packet) and "backward" not in str(packet)


def _storage(tensor: torch.Tensor) -> int:
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):  # tensor classes without a storage of their own
        return -id(tensor)
