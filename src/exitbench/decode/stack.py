"""A model whose blocks are called by us, with the arguments that its own code has for them.

The model's forward runs as ever: embeddings, masks, positions before the blocks; norm, head, soft-cap after them. The
blocks are stood in for by recorders that note what they were called with and pass the hidden state on. In place of the
last one, a driver calls the real blocks, in its own order and on its own choice of tokens, and returns the hidden
states that are to be read out. For other tokens than those of the pass, a pass for the arguments alone says what the
blocks are to be called with: no mask or rotation is made here.

What a block is given besides hidden state, mask, positions and cache must not depend on what other blocks computed;
where it does, `trial` shows it and the model is refused.

Shapes: B rows, T tokens, D hidden size, V vocabulary.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from exitbench.decode.cache import SlotCache
from exitbench.errors import DecodeError
from exitbench.models.adapter import ModelAdapter, forward_replaced

__all__ = ["Calls", "Driver", "Stack", "Tokens"]

Calls = list[tuple[tuple[Any, ...], dict[str, Any]]]
"""The arguments of each block."""
Driver = Callable[[Calls, torch.Tensor], torch.Tensor]
"""From the arguments of each block and (B, T, D) embeddings to (B, T', D) hidden states to read out."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Consecutive tokens of some rows, as the model is given them."""

    ids: torch.Tensor
    """(B, T)"""
    positions: torch.Tensor
    """(B, T)"""
    mask: torch.Tensor | None
    """(B, slots up to the last of them) 1 for tokens, 0 for padding; None without padding."""
    first_slot: int


class Stack:
    """The blocks of a model, taken apart from it for as long as `installed` lasts.

    Args:
        adapter: a proved view of the model.

    Raises:
        DecodeError: the model takes no cache that is known.
    """

    def __init__(self, adapter: ModelAdapter) -> None:
        self._model = adapter.model
        self._ports, self._layout = adapter.paths.ports, adapter.paths.layout
        self._scales = adapter.paths.scales
        self.num_blocks = adapter.num_blocks
        accepted = inspect.signature(adapter.model.forward).parameters
        names = [name for name in ("past_key_values", "cache_params") if name in accepted]
        if not names:
            raise DecodeError(
                f"{type(adapter.model).__name__} takes no key-value cache or recurrent state that exitbench knows, and "
                "cannot be decoded with early exit; its potential can be measured without, see 'exitbench run'"
            )
        self._cache_name = names[0]
        self._is_recurrent = self._cache_name == "cache_params"
        self._takes_positions = "position_ids" in accepted
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        self.blocks = adapter.blocks
        """The modules, in the order in which they run."""
        self._forwards = [block.forward for block in adapter.blocks]
        self._head = adapter.model.get_submodule(adapter.paths.head)
        self._calls: Calls = []
        self._driver: Driver | None = None
        self.head_output: torch.Tensor | None = None
        """(B, T, V) what a driver knows the head will return; None lets the head compute it."""

    def new_cache(self) -> SlotCache:
        """An empty cache for the model."""
        return SlotCache(self._model.config.get_text_config(decoder=True))

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Take the blocks out of the model and put the recorders in their places."""
        head = self._head.forward

        def read(features: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if self._driver is None:  # a pass for the arguments alone
                return features[..., :1]
            return head(features, *args, **kwargs) if self.head_output is None else self.head_output

        with ExitStack() as stack:
            for block in dict.fromkeys(self.blocks):
                stack.enter_context(forward_replaced(block, self._record))
            stack.enter_context(forward_replaced(self._head, read))
            yield

    def drive(self, tokens: Tokens, cache: SlotCache, driver: Driver) -> torch.Tensor:
        """One pass of the model, its blocks run by a driver.

        Args:
            tokens: of the pass.
            cache: of their rows.
            driver: runs the blocks.

        Returns:
            (B, T', V) logits of what the driver returned; those of the last token are the last of them.
        """
        self._driver, self.head_output = driver, None
        try:
            return self._forward(tokens, cache, **self._last_only)
        finally:
            self._driver = self.head_output = None

    def calls(self, tokens: Tokens, cache: SlotCache) -> Calls:
        """What each block would be called with for some tokens; nothing is run."""
        before = self._calls, self._driver, cache.slots
        self._driver = None
        try:
            self._forward(tokens, cache)
            return self._calls
        finally:
            self._calls, self._driver, cache.slots = before

    def block(self, index: int, calls: Calls, hidden_BTD: torch.Tensor) -> torch.Tensor:
        """Run one block, counted from 0, on hidden states."""
        port = self._ports[index]
        args, kwargs = port.given(*calls[index], self._layout.from_rows(hidden_BTD))
        hidden = self._layout.to_rows(port.left(self._forwards[index](*args, **kwargs)))
        return hidden if self._scales[index] == 1 else hidden * self._scales[index]

    def _forward(self, tokens: Tokens, cache: SlotCache, **options: Any) -> torch.Tensor:
        self._calls = []
        cache.slots = tokens.first_slot
        inputs: dict[str, Any] = {"input_ids": tokens.ids, self._cache_name: cache, "use_cache": True} | options
        if self._takes_positions:
            inputs["position_ids"] = tokens.positions
        if tokens.mask is not None:
            # A cache of recurrent states alone has no keys of earlier tokens that a mask could speak of.
            inputs["attention_mask"] = tokens.mask[:, tokens.first_slot :] if self._is_recurrent else tokens.mask
        logits: torch.Tensor = self._model(**inputs).logits
        return logits

    def _record(self, *args: Any, **kwargs: Any) -> Any:
        index = len(self._calls)
        port = self._ports[index]
        self._calls.append((args, kwargs))
        hidden = port.taken(args, kwargs)
        if index == self.num_blocks - 1 and self._driver is not None:
            embedded = self._ports[0].taken(*self._calls[0])
            driven = self._driver(self._calls, self._layout.to_rows(embedded))
            hidden = self._layout.from_rows(driven)
        return port.imitated(hidden)
