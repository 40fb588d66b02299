"""The readout in two steps, features and vocabulary, where that gives the very bits of the model's own code.

A readout is mostly a norm, a product with the rows of the head, and at times a scale or a soft-cap. Taken apart, the
features of a hidden state are computed once; the product, with all rows of the head or those of some tokens, is
made in memory that is used again. Each part is found by trying, on hidden states of a probe sequence:

- features: the modules after the last block one after the other, else the model's own code up to its head;
- product: the head's weight and bias;
- what follows the head: nothing, else the model's own code on the product.

What does not give the same bits is not used. Where nothing does (a quantised head, weights that wait elsewhere), the
model's own code does the whole readout: the reference.

Shapes: R rows, T tokens, K depths, D hidden size, E features, V vocabulary, C some tokens.
"""

from typing import Any

import torch
from torch.nn import functional

from exitbench.models.adapter import ModelAdapter
from exitbench.models.discover import probe_ids
from exitbench.models.strict import LOAD_ERRORS

__all__ = ["Readout", "filled_up"]

_LEAST_ROWS = 16
"""Products of fewer rows may be computed by other code, which adds up in another order; so they are filled up."""
_SOME_TOKENS = (_LEAST_ROWS, 37, 300, 1000)


class Readout:
    """Hidden states of any depth -> logits, as the model's own code has them, to the last bit.

    Args:
        adapter: a proved view of a model.
    """

    def __init__(self, adapter: ModelAdapter) -> None:
        self._adapter = adapter
        head = adapter.model.get_submodule(adapter.paths.head)
        weight: Any = getattr(head, "weight", None)
        self._bias: torch.Tensor | None = getattr(head, "bias", None)
        self._workspace: torch.Tensor | None = None
        self.vocab_size = adapter.paths.vocab_size
        hidden_LRD = adapter.capture(probe_ids(adapter.model))
        self.probe_KTD = hidden_LRD[[0, len(hidden_LRD) // 2, -1]]
        """(3, T, D) hidden states of the probe sequence after no, half and all blocks, for trials of a shortcut."""
        some = self.probe_KTD.flatten(0, 1)
        logits = adapter.readout(some)
        self.dtype = logits.dtype
        """Of the logits, which hold the values of the model's own output dtype."""
        self._modules_suffice = False
        self._head_is_last = False
        self.is_split = False
        """Whether the two steps are really two."""
        self.picks_tokens = False
        """Whether logits of some tokens are, bit for bit, those of the same tokens among all."""
        if _are_rows(weight, adapter.paths.vocab_size):
            self._weight: torch.Tensor = weight
            with torch.inference_mode():
                self._try_to_split(some, logits)
            self._workspace = None

    def __call__(self, hidden_RD: torch.Tensor) -> torch.Tensor:
        """(R, V) logits in the model's own output dtype or one that holds the same values.

        They lie in memory that the next call uses again.
        """
        return self.logits(self.features(hidden_RD))

    @property
    def head(self) -> tuple[torch.Tensor, torch.Tensor | None] | None:
        """(V, E) weight and (V,) bias that make logits of features in the weight's dtype; None if they are not all."""
        if not self._head_is_last:
            return None
        bias = self._bias
        return self._weight[: self.vocab_size], None if bias is None else bias[: self.vocab_size]

    def features(self, hidden_RD: torch.Tensor) -> torch.Tensor:
        """(R, E) what the head is given; the hidden states themselves where the readout is not split."""
        if not self.is_split:
            return hidden_RD
        with torch.inference_mode():
            return self._by_modules(hidden_RD) if self._modules_suffice else self._before_head(hidden_RD)

    def logits(self, features_RE: torch.Tensor, tokens: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of all tokens (R, V), in memory that the next call uses again, or of the given ones (R, C).

        Args:
            features_RE: from `features`.
            tokens: (C,) ids; for a readout that `picks_tokens`.
        """
        if not self.is_split:
            return self._adapter.readout(features_RE)
        with torch.inference_mode():
            product = self._product(filled_up(features_RE), tokens)
            logits = product if self._head_is_last else self._after_head(product)
            return logits[: len(features_RE)]

    def _try_to_split(self, hidden_RD: torch.Tensor, logits_RV: torch.Tensor) -> None:
        """Find out which shortcuts give these logits for these hidden states, to the last bit."""
        weight, features = self._weight, self._before_head(hidden_RD)
        if (features.shape[-1], features.dtype, features.device) != (weight.shape[-1], weight.dtype, weight.device):
            return
        product = self._product(features).clone()
        self._head_is_last = _same(product, logits_RV)
        self.is_split = self._head_is_last or _same(self._after_head(product), logits_RV)
        if not self.is_split:
            return
        self._modules_suffice = self._modules_give(features, hidden_RD)
        self.dtype = product.dtype if self._head_is_last else logits_RV.dtype
        self.picks_tokens = all(
            _same(self.logits(features[:rows], tokens), logits_RV[:rows, tokens])
            for rows in (1, _LEAST_ROWS, len(features))
            for tokens in _some_tokens(self.vocab_size, logits_RV.device)
        )

    def _before_head(self, hidden_RD: torch.Tensor) -> torch.Tensor:
        """(R, E) by the model's own code."""
        seen: list[torch.Tensor] = []

        def head(features: torch.Tensor) -> torch.Tensor:
            seen.append(features.reshape(len(hidden_RD), -1))
            return features[..., :1]

        self._adapter.readout(hidden_RD, head=head)
        return seen[0]

    def _by_modules(self, hidden_RD: torch.Tensor) -> torch.Tensor:
        """(R, E) by the modules between blocks and head, one after the other."""
        values = hidden_RD
        for path in self._adapter.paths.tail:
            if path == self._adapter.paths.head:
                break
            values = self._adapter.model.get_submodule(path)(values)
        return values.to(self._weight.dtype)  # streams may be wider than the head

    def _modules_give(self, features_RE: torch.Tensor, hidden_RD: torch.Tensor) -> bool:
        """Whether one module after the other gives these features; they may not even fit one another."""
        try:
            return _same(self._by_modules(hidden_RD), features_RE)
        except LOAD_ERRORS:
            return False

    def _product(self, features_RE: torch.Tensor, tokens: torch.Tensor | None = None) -> torch.Tensor:
        """(R, V) or (R, C): the head, without what the model does to its output."""
        weight, bias = self._weight, self._bias
        if tokens is not None:
            return functional.linear(features_RE, weight[tokens], None if bias is None else bias[tokens])
        rows, width = len(features_RE), self.vocab_size
        out = self._room(rows * width).view(rows, width)
        if bias is None:
            return torch.mm(features_RE, weight[:width].T, out=out)
        return torch.addmm(bias[:width], features_RE, weight[:width].T, out=out)

    def _after_head(self, product_RC: torch.Tensor) -> torch.Tensor:
        """(R, C) by the model's own code."""
        nothing = self._adapter.paths.hidden_size
        hidden = product_RC.new_zeros(len(product_RC), nothing, dtype=self._adapter.model.dtype)
        return self._adapter.readout(hidden, head=lambda features: product_RC.view(*features.shape[:-1], -1))

    def _room(self, size: int) -> torch.Tensor:
        if self._workspace is None or len(self._workspace) < size:
            self._workspace = None  # before the larger one is asked for
            self._workspace = self._weight.new_empty(size)
        return self._workspace[:size]


def filled_up(features_RE: torch.Tensor) -> torch.Tensor:
    """The rows, and as many copies of the first one as a product needs, so that none depends on how many there are."""
    missing = _LEAST_ROWS - len(features_RE)
    return features_RE if missing <= 0 else torch.cat([features_RE, features_RE[:1].expand(missing, -1)])


def _are_rows(weight: Any, num_rows: int) -> bool:
    """Whether a head's weight is that many rows of numbers that are at hand: not quantised, nor waiting elsewhere."""
    return (
        type(weight) in (torch.Tensor, torch.nn.Parameter)
        and weight.ndim == 2
        and weight.is_floating_point()
        and weight.device.type != "meta"
        and len(weight) >= num_rows
    )


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors hold the same values, whatever their dtypes."""
    return a.shape == b.shape and torch.equal(a.to(b.dtype), b)


def _some_tokens(vocab_size: int, device: torch.device) -> list[torch.Tensor]:
    """Sets of token ids of several sizes, each sorted, spread over the vocabulary."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(vocab_size, generator=generator).to(device)
    return [order[:size].sort().values for size in _SOME_TOKENS]
