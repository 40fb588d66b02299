"""What a signal sees: a few tokens at one depth, with the shared intermediate results computed once.

Logits arrive rounded to the model's own output dtype and every comparison is made on those values; ties break to the
lowest id. Sums are accumulated in float32 on logits shifted so that the largest is 0.

Shapes: R rows (tokens), V vocabulary, D hidden size.
"""

from functools import cached_property

import torch

__all__ = ["DepthView", "row_products"]


def row_products(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(R,) scalar product of each row of (R, V) `a` with the same row of `b`."""
    products: torch.Tensor = torch.linalg.vecdot(a, b)
    return products


class DepthView:
    """R tokens at one depth.

    Args:
        logits: (R, V), in the model's output dtype.
        hidden: (R, D) hidden states.
        target: (R,) id of the token that really comes next.
        previous_hidden: (R, D) hidden states one block earlier; None at depth 0.
        final: the same tokens at depth L; None if this is depth L.
    """

    def __init__(
        self,
        logits: torch.Tensor,
        hidden: torch.Tensor,
        target: torch.Tensor,
        *,
        previous_hidden: torch.Tensor | None = None,
        final: "DepthView | None" = None,
    ) -> None:
        self.target = target
        self._final = final
        self.hidden = hidden.float()
        self.previous_hidden = None if previous_hidden is None else previous_hidden.float()
        logits = logits.float()
        self.top_id = logits.argmax(-1)
        """(R,) id of the largest logit, the lowest one of those tied."""
        self.top_logit = self.at(logits, self.top_id)
        """(R,) largest logit, before the shift."""
        self.shifted = logits - self.top_logit[:, None]
        """(R, V) logits minus the row's largest."""

    @property
    def final(self) -> "DepthView":
        """The same tokens at depth L; itself at that depth."""
        # An attribute that refers to itself would keep the tensors alive until the next garbage collection.
        return self._final or self

    @staticmethod
    def at(values: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """(R,) entries of (R, V) `values` at the given ids."""
        return values.gather(-1, ids[:, None])[:, 0]

    @cached_property
    def probabilities(self) -> torch.Tensor:
        """(R, V) softmax."""
        return self.shifted.softmax(-1)

    @cached_property
    def log_normaliser(self) -> torch.Tensor:
        """(R,) log-sum-exp of the shifted logits, >= 0."""
        return -self.at(self.probabilities, self.top_id).log()

    @cached_property
    def shifted_mean(self) -> torch.Tensor:
        """(R,) mean of the shifted logits over the vocabulary."""
        return self.shifted.mean(-1)

    @cached_property
    def centred(self) -> torch.Tensor:
        """(R, V) logits minus the row's mean."""
        return self.shifted - self.shifted_mean[:, None]

    @cached_property
    def centred_square(self) -> torch.Tensor:
        """(R,) squared norm of the centred logits."""
        return row_products(self.centred, self.centred)

    @cached_property
    def centred_product(self) -> torch.Tensor:
        """(R,) scalar product of this depth's and the final centred logits."""
        return row_products(self.centred, self.final.centred)

    def log_probability(self, ids: torch.Tensor) -> torch.Tensor:
        """(R,) log-probability of one token id a row."""
        return self.at(self.shifted, ids) - self.log_normaliser
