"""What a signal sees: some tokens at some depths, with the shared intermediate results computed once.

Logits arrive rounded to the model's own output dtype and every comparison is made on those values; ties break to the
lowest id. Sums are accumulated in float32 on logits shifted so that the largest is 0.

The code here is the reference. Compiled code may have computed some of the properties beforehand; GPU kernels compute
all that built-in signals ask for, and then there are no logits.

Shapes: K depths, T tokens, V vocabulary, D hidden size; the final view has K = 1 or no axis K, and broadcasts.
"""

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch

__all__ = ["DepthView", "one_block_earlier", "row_products"]


def row_products(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(..., ) scalar product of each row of (..., V) `a` with the same row of `b`."""
    products: torch.Tensor = torch.linalg.vecdot(a, b)
    return products


def one_block_earlier(hidden_LTD: torch.Tensor, depths: slice) -> torch.Tensor:
    """(K, T, D) hidden states of (L + 1, T, D) one block before some depths; NaN before depth 0."""
    earlier = hidden_LTD[max(0, depths.start - 1) : depths.stop - 1]
    return earlier if depths.start > 0 else torch.cat([torch.full_like(hidden_LTD[:1], torch.nan), earlier])


class DepthView:
    """T tokens at K depths.

    Args:
        logits: (K, T, V), in the model's output dtype; None where all that is asked for is known.
        hidden: (K, T, D) hidden states.
        target: (T,) id of the token that really comes next.
        previous_hidden: (K, T, D) hidden states one block earlier; NaN at depth 0.
        final: the same tokens at depth L; None if this is that.
        previous: the same tokens one block earlier; None at depth 0, which is then the only one, and where no signal
            that is asked for needs it.
        known: properties that are computed already, by name.
    """

    def __init__(
        self,
        logits: torch.Tensor | None,
        hidden: torch.Tensor,
        target: torch.Tensor,
        *,
        previous_hidden: torch.Tensor | None = None,
        final: "DepthView | None" = None,
        previous: "DepthView | None" = None,
        known: Mapping[str, Any] | None = None,
    ) -> None:
        self._logits = logits
        self.target = target
        self.hidden = hidden.float()
        self.previous_hidden = None if previous_hidden is None else previous_hidden.float()
        self.previous = previous
        self._final = final
        vars(self).update(known or {})  # where a cached property keeps its value

    @property
    def final(self) -> "DepthView":
        """The same tokens at depth L; itself at that depth."""
        # An attribute that refers to itself would keep the tensors alive until the next garbage collection.
        return self._final or self

    @property
    def logits(self) -> torch.Tensor:
        """(K, T, V), in the model's output dtype."""
        assert self._logits is not None, "a built-in signal asked for something that is not known without logits"
        return self._logits

    @staticmethod
    def at(values: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """(K, T) entries of (K, T, V) `values` at (T,) or (K, T) ids."""
        return values.gather(-1, ids.expand(values.shape[:-1])[..., None])[..., 0]

    def logit(self, ids: torch.Tensor) -> torch.Tensor:
        """(K, T) shifted logit of one token id a row."""
        return self.at(self.logits, ids).float() - self.top_logit

    @cached_property
    def vocab_size(self) -> int:
        """V."""
        return self.logits.shape[-1]

    @cached_property
    def shifted_target(self) -> torch.Tensor:
        """(K, T) shifted logit of the token that really comes next."""
        return self.logit(self.target)

    @cached_property
    def shifted_final_top(self) -> torch.Tensor:
        """(K, T) shifted logit of the final top id."""
        return self.logit(self.final.top_id)

    @cached_property
    def top_id(self) -> torch.Tensor:
        """(K, T) id of the largest logit, the lowest one of those tied."""
        return self.logits.float().argmax(-1)

    @cached_property
    def top_logit(self) -> torch.Tensor:
        """(K, T) largest logit, before the shift."""
        return self.at(self.logits, self.top_id).float()

    @cached_property
    def shifted(self) -> torch.Tensor:
        """(K, T, V) logits minus the row's largest, in float32."""
        return self.logits.float() - self.top_logit[..., None]

    @cached_property
    def probabilities(self) -> torch.Tensor:
        """(K, T, V) softmax."""
        return self.shifted.softmax(-1)

    @cached_property
    def second_shifted(self) -> torch.Tensor:
        """(K, T) largest shifted logit beside the one at the top id, <= 0."""
        return self.shifted.scatter(-1, self.top_id[..., None], -math.inf).amax(-1)

    @cached_property
    def log_normaliser(self) -> torch.Tensor:
        """(K, T) log-sum-exp of the shifted logits, >= 0."""
        return -self.at(self.probabilities, self.top_id).log()

    @cached_property
    def expected(self) -> torch.Tensor:
        """(K, T) mean of the shifted logits under the distribution itself."""
        return row_products(self.probabilities, self.shifted)

    @cached_property
    def shifted_mean(self) -> torch.Tensor:
        """(K, T) mean of the shifted logits over the vocabulary."""
        return self.shifted.mean(-1)

    @cached_property
    def centred(self) -> torch.Tensor:
        """(K, T, V) logits minus the row's mean."""
        return self.shifted - self.shifted_mean[..., None]

    @cached_property
    def centred_square(self) -> torch.Tensor:
        """(K, T) squared norm of the centred logits."""
        return row_products(self.centred, self.centred)

    @cached_property
    def centred_product(self) -> torch.Tensor:
        """(K, T) scalar product of these and the final centred logits."""
        return row_products(self.centred, self.final.centred)

    @cached_property
    def surprise(self) -> torch.Tensor:
        """(K, T) mean, under the final distribution, of how much lower a shifted logit is than the final one."""
        return row_products(self.final.probabilities, self.final.shifted - self.shifted)

    @cached_property
    def kl_previous(self) -> torch.Tensor:
        """(K, T) KL(this distribution || the one one block earlier), before rounding below 0 is cut; NaN at depth 0."""
        if self.previous is None:
            return torch.full_like(self.log_normaliser, torch.nan)
        surprise = row_products(self.probabilities, self.shifted - self.previous.shifted)
        return surprise - self.log_normaliser + self.previous.log_normaliser

    @cached_property
    def total_variation(self) -> torch.Tensor:
        """(K, T) half the sum of absolute differences to the final probabilities."""
        return (self.probabilities - self.final.probabilities).abs().sum(-1) / 2

    @cached_property
    def final_rank(self) -> torch.Tensor:
        """(K, T) number of logits strictly larger than that of the final top id."""
        return (self.logits > self.at(self.logits, self.final.top_id)[..., None]).sum(-1)
